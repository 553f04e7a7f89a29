"""Golden files for `segmamba-model verify`, from networks in Python. To be imported; needs torch.

    import sys
    sys.path.insert(0, "scripts")
    import make_golden

    network = SegResNet(**arguments)  # the original, with its weights
    make_golden.write("golden.safetensors", network, "segresnet", arguments,
                      torch.randn(1, 4, 16, 16, 24))
"""

import copy
import ctypes
import json
import math
import struct

import torch
from torch.overrides import TorchFunctionMode

DTYPES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8",
    torch.uint8: "U8", torch.bool: "BOOL",
}
# The axes of an output behind the batch, by the number of its dimensions.
AXES = {3: "lc", 4: "chw", 5: "cdhw"}


def write(path, network, model, config, value, outputs=None, seed=0):
    """Writes what `network` makes of the tensor `value`, and its gradients, computed in float64.

    `model` is a name that verify knows ("segresnet"), `config` the dict of arguments that made the
    network; classes and numbers of NumPy may stand in it. `outputs` turns what the network returns into the list of its outputs, the finest
    first; without it that is a tensor, or already such a list. `network` stays as it is.

    The network computes as in inference: without dropout, also where it asks for dropout in
    inference, too, as TransBTS does. ValueError where it computes something random all the same.
    Where weights still have their initial
    values, a norm's scale of 1 or a bias of 0 that is left out goes unnoticed: take trained ones.
    """
    config = json.dumps(config, default=as_json)  # before hours of computing
    state = {name: tensor.detach().cpu() for name, tensor in network.state_dict().items()}
    # What float32 computes must have begun with the same numbers.
    value = value.detach().cpu().float()
    exact = run(network, value, torch.float64, outputs, seed)
    rough = run(network, value, torch.float32, outputs, seed)
    error = max(float((a - b.double()).abs().max())
                for a, b in zip(exact["logits"], rough["logits"]))

    golden = {"input": value, "loss": exact["loss"].reshape(1), "grad_input": exact["input"]}
    single = len(exact["logits"]) == 1
    for i, (logits, factors) in enumerate(zip(exact["logits"], exact["factors"])):
        number = "" if single else f".{i}"
        golden[f"logits{number}"] = logits
        for axis, numbers in factors.items():
            golden[f"r{number}.{axis}"] = numbers
    names = list(exact["gradients"])
    golden["grad_norm"] = torch.stack([exact["gradients"][name][0] for name in names])
    golden["grad_dot"] = torch.stack([exact["gradients"][name][1] for name in names])
    metadata = {
        "model": model,
        "config": config,
        "parameters": json.dumps(names),
        "unused_parameters": json.dumps(exact["unused"]),
        "float32_max_abs_error": repr(error),
    }
    state.update({f"golden/{name}": tensor for name, tensor in golden.items()})
    write_safetensors(path, state, metadata)


def as_json(value):
    """What JSON has no word for: a class by its path, numbers and arrays as Python's own."""
    if isinstance(value, type):
        return f"{value.__module__}.{value.__qualname__}"
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"config: {value!r} has no form in JSON: give it as text or number, or leave "
                    "it out where it is the default")


class NoDropout(TorchFunctionMode):
    """Dropout gives back its input, under whatever name it was imported."""

    NAMES = {"dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout",
             "feature_alpha_dropout", "feature_dropout"}

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = getattr(function, "__name__", "").rstrip("_")
        if name in self.NAMES:
            return args[0] if args else kwargs["input"]
        if name == "scaled_dot_product_attention":
            args = args[:4] + (0.0,) + args[5:] if len(args) > 4 else args
            kwargs = {**kwargs, "dropout_p": 0.0} if "dropout_p" in kwargs else kwargs
        return function(*args, **kwargs)


def run(network, value, dtype, outputs, seed):
    with NoDropout():
        return run_as_it_is(network, value, dtype, outputs, seed)


def run_as_it_is(network, value, dtype, outputs, seed):
    network = copy.deepcopy(network).cpu().to(dtype).eval()
    for parameter in network.parameters():
        parameter.requires_grad_(True)
        parameter.grad = None
    value = value.to(dtype, copy=True).requires_grad_()

    def forward():
        result = network(value)
        if outputs is not None:
            result = outputs(result)
        return [result] if torch.is_tensor(result) else list(result)

    logits = forward()
    if dtype == torch.float32:  # the cheaper one
        with torch.no_grad():
            again = forward()
        # Rounding may differ, as threads do.
        if not all(torch.allclose(a, b, rtol=0, atol=1e-4 * float(b.abs().max()))
                   for a, b in zip(logits, again)):
            raise ValueError("the network computes something else each time: it is random, or "
                             "changes itself, where a golden file must not be")
    # The loss weighs every output by R = the product of one factor an axis.
    generator = torch.Generator().manual_seed(seed)
    factors = []
    loss = torch.zeros((), dtype=dtype)
    for output in logits:
        weights = torch.ones((), dtype=dtype)
        own = {}
        for axis, size in zip(AXES[output.dim()], output.shape[1:]):
            own[axis] = 2 * torch.rand(size, dtype=torch.float64, generator=generator) - 1
            weights = weights.unsqueeze(-1) * own[axis].to(dtype)
        factors.append(own)
        loss = loss + (output * weights).sum()
    loss.backward()
    gradients = {name: summary(parameter.grad) for name, parameter in network.named_parameters()
                 if parameter.grad is not None}
    unused = [name for name, parameter in network.named_parameters() if parameter.grad is None]
    return {"logits": [output.detach() for output in logits], "factors": factors,
            "loss": loss.detach().double(), "gradients": gradients, "unused": unused,
            "input": torch.stack(summary(value.grad))}


def summary(gradient):
    """The norm of a gradient, and its dot product with a wave, which a transposed one changes."""
    flat = gradient.detach().double().reshape(-1)
    wave = torch.cos(0.7 * torch.arange(flat.numel(), dtype=torch.float64))
    return flat.norm(), flat.dot(wave)


def write_safetensors(path, tensors, metadata):
    header = {"__metadata__": metadata}
    end = 0
    for name, tensor in tensors.items():
        start, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape),
                        "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (8 * math.ceil(len(text) / 8) - len(text))
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors.values():
            whole = tensor.contiguous()
            file.write(ctypes.string_at(whole.data_ptr(), whole.numel() * whole.element_size()))
