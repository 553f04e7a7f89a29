"""Times the published model beside ours: bench_model.py CHECKOUT PROGRAM [OPTIONS]

CHECKOUT is github.com/ge-xing/SegMamba; PROGRAM is segmamba-model. On a GPU the published model runs
on its own mamba_ssm, which has to be installed; on a CPU, where that has no kernels, its scan is the
reference loop of the checkout, or nothing with --without-scans. Both in turns, each in a process of
its own, so that a machine that slows down slows both. Prints seconds and peak memory (of the process,
or of PyTorch's allocator on a GPU) of a forward pass without gradients, and with --training of a
step: forward, cross-entropy, backward, SGD. Called by scripts/bench.sh.
"""

import argparse
import contextlib
import importlib
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
import types

import torch
import torch.nn.functional as F


def import_published(checkout, device, with_scans):
    """The class of the published network."""
    if device == "cpu" or not with_scans:
        # Without the extensions that nothing here calls, nor the package's own list of language models.
        for name in ("causal_conv1d", "causal_conv1d_cuda", "selective_scan_cuda"):
            sys.modules[name] = types.ModuleType(name)
        sys.modules["causal_conv1d"].causal_conv1d_fn = None
        sys.modules["causal_conv1d"].causal_conv1d_update = None
        package = types.ModuleType("mamba_ssm")
        package.__path__ = [os.path.join(checkout, "mamba", "mamba_ssm")]
        sys.modules["mamba_ssm"] = package
        simple = importlib.import_module("mamba_ssm.modules.mamba_simple")
        scan = importlib.import_module("mamba_ssm.ops.selective_scan_interface").selective_scan_ref

        def inner(xz, conv_weight, conv_bias, x_proj, dt_proj, A, _B, _C, D, delta_bias, **_):
            x, z = xz.chunk(2, dim=1)
            taps = conv_weight.shape[-1]
            x = F.silu(F.conv1d(F.pad(x, (taps - 1, 0)), conv_weight, conv_bias, groups=x.shape[1]))
            rank, states = dt_proj.shape[1], A.shape[1]
            projected = F.linear(x.transpose(1, 2), x_proj).transpose(1, 2)
            dt, B, C = projected.split((rank, states, states), dim=1)
            dt = F.linear(dt.transpose(1, 2), dt_proj).transpose(1, 2)
            if not with_scans:
                return x * F.silu(z) + dt * (B * C).sum(1, keepdim=True)
            return scan(x, dt, A, B, C, D, z, delta_bias, True)

        simple.mamba_inner_fn_no_out_proj = inner
        package.Mamba = simple.Mamba
    sys.path.insert(0, checkout)
    return importlib.import_module("model_segmamba.segmamba").SegMamba


def run_published(arguments):
    """Seconds of the second of two passes, and the peak memory, as JSON."""
    device = torch.device(arguments.device)
    network = import_published(arguments.checkout, arguments.device, not arguments.without_scans)
    model = network(in_chans=4, out_chans=4).to(device)
    size = arguments.size
    images = torch.randn(arguments.batch, 4, size, size, size, device=device)
    labels = torch.randint(4, (arguments.batch, size, size, size), device=device)
    cast = (contextlib.nullcontext() if arguments.precision == "fp32" else
            torch.autocast(device.type, {"bf16": torch.bfloat16, "fp16": torch.float16}[arguments.precision]))
    optimizer = torch.optim.SGD(model.parameters(), 1e-2, momentum=0.99, nesterov=True)

    def step():
        if not arguments.training:
            with torch.inference_mode(), cast:
                return model(images)
        with cast:
            logits = model(images)
        F.cross_entropy(logits.float(), labels).backward()
        optimizer.step()
        optimizer.zero_grad()

    def wait():
        if device.type == "cuda":
            torch.cuda.synchronize()

    model.train(arguments.training)
    for _ in range(arguments.passes):
        wait()
        start = time.perf_counter()
        step()
        wait()
        seconds = time.perf_counter() - start
    memory = (torch.cuda.max_memory_allocated() if device.type == "cuda" else
              resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
    print(json.dumps({"seconds": seconds, "bytes": memory}))


def theirs(arguments):
    command = [sys.executable, __file__, arguments.checkout, arguments.program, "--published-alone",
               *arguments.options]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    figures = json.loads(result.stdout.splitlines()[-1])
    return figures["seconds"], figures["bytes"]


def ours(arguments, config):
    command = [arguments.program, "bench", "--config", config, "--size", str(arguments.size),
               "--batch", str(arguments.batch), "--precision", arguments.precision,
               "--device", arguments.device, *(["--training"] if arguments.training else []),
               *(["--set", *arguments.set] if arguments.set else [])]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    line = result.stdout.splitlines()[0]
    seconds, memory, unit = re.search(
        r": ([\d.]+) s \(.*peak memory.* ([\d.]+) ([KMG]i?B)$", line).groups()
    scale = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}[unit[0]]
    return float(seconds), float(memory) * scale


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("checkout")
    parser.add_argument("program")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--precision", choices=("fp32", "bf16", "fp16"), default="fp32")
    parser.add_argument("--device", choices=("cpu", "cuda"),
                        default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--training", action="store_true")
    parser.add_argument("--without-scans", action="store_true",
                        help="of the published model: what everything else takes")
    parser.add_argument("--set", nargs="+", help="overrides of our config: SECTION.KEY=VALUE")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--passes", type=int, default=2, help="of the published model; the last counts")
    parser.add_argument("--published-alone", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.options = [option for option in sys.argv[3:] if option != "--published-alone"]
    if arguments.published_alone:
        return run_published(arguments)
    with tempfile.TemporaryDirectory() as folder:
        # As the published training has it: the published encoder, SGD, cross-entropy.
        config = os.path.join(folder, "published.yaml")
        with open(config, "w") as file:
            file.write("model:\n  name: segmamba\n  encoder: tom\n  in_channels: 4\n  out_channels: 4\n"
                       "optimizer:\n  name: sgd\n  learning_rate: 1.0e-2\n"
                       "loss:\n  name: cross_entropy\n")
        figures = [], []
        for _ in range(arguments.rounds):
            figures[0].append(theirs(arguments))
            figures[1].append(ours(arguments, config))
    best = [min(seconds for seconds, _ in side) for side in figures]
    memory = [max(size for _, size in side) / (1 << 30) for side in figures]
    what = "training step" if arguments.training else "forward pass"
    print(f"{what} of [{arguments.batch}, 4, {arguments.size}^3], {arguments.precision}, {arguments.device}, "
          f"best of {arguments.rounds}")
    print(f"  published  {best[0]:8.3f} s  {memory[0]:7.2f} GiB"
          + (", its scans left out" if arguments.without_scans else ""))
    print(f"  ours       {best[1]:8.3f} s  {memory[1]:7.2f} GiB")
    print(f"  ours / published: time {best[1] / best[0]:.3f}, memory {memory[1] / memory[0]:.2f}")


if __name__ == "__main__":
    main()
