"""scripts/make_golden.py writes what segmamba-model verify takes: make_golden_test.py BIN SCRIPTS"""

import pathlib
import subprocess
import sys
import tempfile

import torch
from torch import nn
from torch.nn.functional import dropout3d

programs, scripts = map(pathlib.Path, sys.argv[1:3])
sys.path.insert(0, str(scripts))
import make_golden


class Conv(nn.Module):
    def __init__(self, *sizes, bias=False):
        super().__init__()
        self.conv = nn.Conv3d(*sizes, padding=sizes[2] // 2, bias=bias)

    def forward(self, x):
        return self.conv(x)


class Block(nn.Module):
    def __init__(self, channels, groups):
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, channels)
        self.conv1 = Conv(channels, channels, 3)
        self.norm2 = nn.GroupNorm(groups, channels)
        self.conv2 = Conv(channels, channels, 3)

    def forward(self, x):
        y = self.conv1(torch.relu(self.norm1(x)))
        return x + self.conv2(torch.relu(self.norm2(y)))


class OneLevel(nn.Module):
    """A SegResNet of one level, with the names of the original."""

    def __init__(self, in_channels, out_channels, filters, groups):
        super().__init__()
        self.convInit = Conv(in_channels, filters, 3)
        self.down_layers = nn.ModuleList([nn.Sequential(nn.Identity(), Block(filters, groups))])
        self.conv_final = nn.Sequential(nn.GroupNorm(groups, filters), nn.ReLU(),
                                        Conv(filters, out_channels, 1, bias=True))
        self.dropout = nn.Dropout3d(0.5)

    def forward(self, x):
        return self.conv_final(self.down_layers[0](self.dropout(self.convInit(x))))


class AlwaysDropout(nn.Module):
    """As TransBTS, whose dropout does not ask whether it is trained."""

    def forward(self, x):
        x = nn.functional.dropout(dropout3d(x, 0.5), p=0.3, inplace=False)
        return torch.dropout(x, 0.5, True)


class Noise(nn.Module):
    def forward(self, x):
        return x + torch.randn_like(x)


class Number:
    """As a number of NumPy."""

    def tolist(self):
        return 3


class Wrapper(nn.Module):
    """As nn.DataParallel, which keeps the network under another name."""

    def __init__(self, network):
        super().__init__()
        self.module = network

    def forward(self, x):
        return {"out": self.module(x)}


def verify(path, *words, exit_code=0):
    result = subprocess.run([programs / "segmamba-model", "verify", path, *words],
                            capture_output=True, text=True)
    assert result.returncode == exit_code, (result.returncode, result.stdout, result.stderr)
    return result


torch.manual_seed(0)
arguments = {"in_channels": 2, "out_channels": 3, "init_filters": 4, "blocks_down": [1],
             "blocks_up": [], "norm": ["GROUP", {"num_groups": 2}], "dropout_prob": 0.5}
network = OneLevel(2, 3, 4, 2)
with torch.no_grad():
    for parameter in network.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
value = torch.randn(2, 2, 6, 5, 4)

with tempfile.TemporaryDirectory() as name:
    golden = pathlib.Path(name) / "golden.safetensors"
    make_golden.write(golden, network, "segresnet", arguments, value)
    for dtype in ("float64", "float32"):
        assert "computes what its original" in verify(golden, "--dtype", dtype).stdout

    # The network is as it was.
    assert network.training and all(parameter.grad is None for parameter in network.parameters())
    for key, tensor in network.state_dict().items():
        assert tensor.dtype == torch.float32 and torch.equal(tensor, before[key]), key

    # Dropout in inference, too, is left out, and only here.
    network.dropout = AlwaysDropout()
    make_golden.write(golden, network, "segresnet", arguments, value)
    verify(golden)
    assert not torch.equal(network(value), network.eval()(value))
    network.dropout = Noise()
    try:
        make_golden.write(golden, network, "segresnet", arguments, value)
        raise AssertionError("a random network was taken")
    except ValueError as error:
        assert "something else each time" in str(error)
    network.dropout = nn.Dropout3d(0.5)

    # Attention with dropout in it, by either way of passing it.
    q = torch.randn(1, 1, 5, 4)
    attention = nn.functional.scaled_dot_product_attention
    with make_golden.NoDropout():
        for result in (attention(q, q, q, dropout_p=0.5), attention(q, q, q, None, 0.5)):
            assert torch.equal(result, attention(q, q, q))

    # Classes and numbers in the arguments. What has no form in JSON is told before computing.
    assert make_golden.as_json(nn.Conv3d) == "torch.nn.modules.conv.Conv3d"
    words = {**arguments, "out_channels": Number(), "norm": ("group", {"num_groups": 2})}
    make_golden.write(golden, network, "segresnet", words, value)
    verify(golden)
    unet = {"conv_op": nn.Conv3d, "norm_op": nn.InstanceNorm3d, "nonlin": nn.LeakyReLU,
            "norm_op_kwargs": {"affine": True}, "features_per_stage": [4, 8]}
    make_golden.write(golden, network, "nnunet", unet, value)
    assert "is not supported" not in verify(golden, exit_code=1).stderr  # but other weights
    try:
        make_golden.write(golden, None, "segresnet", {"act": lambda x: x}, value)
        raise AssertionError("a function was taken")
    except TypeError as error:
        assert "config: <function" in str(error)

    # Names with a prefix, and an output that has to be taken out first.
    make_golden.write(golden, Wrapper(network), "segresnet", arguments, value,
                      outputs=lambda result: [result["out"]])
    verify(golden)

    # Another network under the same names.
    network.conv_final[1] = nn.LeakyReLU(0.01)
    make_golden.write(golden, network, "segresnet", arguments, value)
    assert "differs from its original" in verify(golden, exit_code=1).stderr

    # Weights alone.
    plain = pathlib.Path(name) / "plain.safetensors"
    make_golden.write_safetensors(plain, before, {"format": "pt"})
    assert "make_golden.py" in verify(plain, exit_code=1).stderr
