"""The scan and the Mamba layer beside what else there is: scan_bench.py LIBSEGMAMBA_OPS.SO [OPTIONS]

The four stages of a 128^3 patch, three directions, forward and backward. On a CPU (one sample)
beside a plain PyTorch loop over steps and a chunked PyTorch scan; on a GPU (two samples) beside
mamba_ssm's extension, with the flips that SegMamba's directions need, where it can be imported. Prints a table
and, with --output, writes the figures as JSON. On a CPU every figure is measured in a process of its
own.
"""

import argparse
import json
import math
import os
import platform
import resource
import statistics
import subprocess
import sys
import time

import torch
import torch.nn.functional as F

STATES = 16
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def shape_of(stage):
    side = 128 >> stage  # 64 at stage 1
    return side**3, 48 << stage, side


def orders_of(length, slices):
    return [1, 1, length, 0, 0, 1, 0, 1, 1, length, 0, 0, 1, 1,
            1, length // slices, slices, 0, 1, length // slices, 0]


def paths_of(length, slices, device):
    steps = torch.arange(length, device=device)
    return [steps, steps.flip(0), steps % slices * (length // slices) + steps // slices]


def scan_inputs(stage, batch, dtype, device):
    length, channels, _ = shape_of(stage)
    torch.manual_seed(1)

    def data(*size, shift=0.0):
        return (torch.randn(size, device=device) + shift).to(dtype).requires_grad_(True)

    def parameter(tensor):
        return tensor.to(device).requires_grad_(True)

    A = -torch.arange(1.0, STATES + 1).repeat(3, channels, 1)
    return [data(3, batch, length, channels), data(3, batch, length, channels, shift=-4.0),
            parameter(A), data(3, batch, length, STATES), data(3, batch, length, STATES),
            parameter(torch.ones(3, channels)), data(batch, length, channels),
            parameter(torch.zeros(3, channels))]


def ours(inputs, stage):
    length, _, slices = shape_of(stage)
    return torch.ops.segmamba.selective_scan_directions(*inputs, True, orders_of(length, slices))


def gathered(inputs, stage):
    """x, softplus(delta), B, C in scan order: [3, batch, L, ...]."""
    length, _, slices = shape_of(stage)
    x, delta, _, B, C, _, _, bias = inputs
    paths = paths_of(length, slices, x.device)
    in_order = [torch.stack([t[k].index_select(1, paths[k]) for k in range(3)])
                for t in (x, delta, B, C)]
    in_order[1] = F.softplus(in_order[1].float() + bias[:, None, None])
    return paths, in_order


def put_back(paths, y, inputs):
    _, _, _, _, _, D, z, _ = inputs
    x = inputs[0]
    total = sum(y[k].index_select(1, paths[k].argsort()) + D[k] * x[k].float() for k in range(3))
    return (total * F.silu(z.float())).to(x.dtype)


def loop(inputs, stage):
    """The formula step by step, all directions at once."""
    A = inputs[2]
    paths, (x, delta, B, C) = gathered(inputs, stage)
    state = torch.zeros(*x.shape[:2], x.shape[3], STATES, device=x.device)
    y = []
    for t in range(x.shape[2]):
        d = delta[:, :, t, :, None]
        state = torch.exp(d * A[:, None]) * state + \
            (d[..., 0] * x[:, :, t])[..., None] * B[:, :, t, None, :]
        y.append((state * C[:, :, t, None, :]).sum(-1))
    return put_back(paths, torch.stack(y, 2), inputs)


def chunked(inputs, stage, chunk=64):
    """An associative scan by doubling within chunks, a loop over chunks."""
    A = inputs[2]
    paths, (x, delta, B, C) = gathered(inputs, stage)
    state = torch.zeros(*x.shape[:2], x.shape[3], STATES, device=x.device)
    y = []
    for first in range(0, x.shape[2], chunk):
        part = slice(first, first + chunk)
        d = delta[:, :, part, :, None]
        decay = torch.exp(d * A[:, None, None])
        h = d * x[:, :, part, :, None] * B[:, :, part, None, :]
        reach = 1
        while reach < h.shape[2]:
            pad = (0, 0, 0, 0, reach, 0)
            h = h + decay * F.pad(h[:, :, :-reach], pad)
            decay = decay * F.pad(decay[:, :, :-reach], pad, value=1.0)
            reach *= 2
        h = h + decay * state[:, :, None]
        state = h[:, :, -1]
        y.append((h * C[:, :, part, None, :]).sum(-1))
    return put_back(paths, torch.cat(y, 2), inputs)


class MambaSsm(torch.autograd.Function):
    """mamba_ssm's kernels, called as its selective_scan_fn does."""

    @staticmethod
    def forward(ctx, u, delta, A, B, C, D, z, delta_bias):
        import selective_scan_cuda
        _, x, out = selective_scan_cuda.fwd(u, delta, A, B, C, D, z, delta_bias, True)
        ctx.save_for_backward(u, delta, A, B, C, D, z, delta_bias, x, _)
        return out

    @staticmethod
    def backward(ctx, grad):
        import selective_scan_cuda
        u, delta, A, B, C, D, z, delta_bias, x, out = ctx.saved_tensors
        du, ddelta, dA, dB, dC, dD, dbias, dz = selective_scan_cuda.bwd(
            u, delta, A, B, C, D, z, delta_bias, grad.contiguous(), x, out, None, True, False)[:8]
        return du, ddelta, dA, dB.to(B.dtype), dC.to(C.dtype), dD, dz, dbias


def channels_first(inputs):
    """The same data, laid out as that code has it: steps innermost."""
    def of(t):
        if t.dim() < 3 or t.shape[-1] == STATES and t.dim() == 3:  # parameters
            return t
        return t.detach().mT.contiguous().mT.requires_grad_(True)
    return [of(t) for t in inputs]


def mamba_ssm_with_flips(inputs, stage):
    """What SegMamba's code does: reorder, scan each direction, reorder back, add."""
    length, _, slices = shape_of(stage)
    x, delta, A, B, C, D, z, bias = inputs
    paths = paths_of(length, slices, x.device)
    total = None
    for k in range(3):
        def scan_order(t):
            t = t.transpose(1, 2).contiguous()
            return t if k == 0 else t.flip(-1) if k == 1 else t.index_select(-1, paths[2])
        y = MambaSsm.apply(scan_order(x[k]), scan_order(delta[k]), A[k],
                           scan_order(B[k]).unsqueeze(1), scan_order(C[k]).unsqueeze(1), D[k],
                           scan_order(z), bias[k])
        y = y if k == 0 else y.flip(-1) if k == 1 else y.index_select(-1, paths[2].argsort())
        total = y if total is None else total + y
    return total.transpose(1, 2)


def layer_inputs(stage, batch, dtype, device):
    length, E, _ = shape_of(stage)
    rank = E // 32
    torch.manual_seed(2)
    sizes = [((batch, length, 2 * E), 1.0), ((3, E, 4), 0.5), ((3, E), 0.1),
             ((3, rank + 2 * STATES, E), E**-0.5), ((3, E, rank), rank**-0.5)]
    tensors = [torch.randn(size, device=device) * scale for size, scale in sizes]
    tensors += [-torch.arange(1.0, STATES + 1, device=device).repeat(3, E, 1),
                torch.ones(3, E, device=device), torch.full((3, E), -4.0, device=device)]
    data = (0, 3, 4)
    return [t.to(dtype if i in data else torch.float32).requires_grad_(True)
            for i, t in enumerate(tensors)]


def layer(inputs, stage):
    length, _, slices = shape_of(stage)
    return torch.ops.segmamba.mamba_inner(inputs[0], inputs[1:], orders_of(length, slices))


def layer_of_operators(inputs, stage):
    """The same of one operator a step, all directions at once, everything kept by autograd."""
    length, E, slices = shape_of(stage)
    orders = orders_of(length, slices)
    xz, conv_weight, conv_bias, x_proj, dt_proj, A, D, bias = inputs
    rank = dt_proj.shape[2]
    x = torch.ops.segmamba.causal_conv1d_silu(xz[..., :E], conv_weight, conv_bias, orders)
    p = x @ x_proj[:, None].transpose(-1, -2)
    delta = p[..., :rank] @ dt_proj[:, None].transpose(-1, -2)
    return torch.ops.segmamba.selective_scan_directions(
        x, delta, A, p[..., rank:rank + STATES], p[..., rank + STATES:], D, xz[..., E:], bias, True,
        orders)


CONTESTANTS = {"segmamba": ours, "loop": loop, "chunked": chunked,
               "mamba_ssm": mamba_ssm_with_flips, "layer": layer,
               "layer of operators": layer_of_operators}


def most_memory(device):
    """Bytes, since memory_before()."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def memory_before(device):
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    return most_memory(device)


def milliseconds(call, device, repeats):
    times = []
    for _ in range(repeats + 1):
        if device == "cuda":
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            call()
            end.record()
            end.synchronize()
            times.append(start.elapsed_time(end))
        else:
            start = time.perf_counter()
            call()
            times.append(1000 * (time.perf_counter() - start))
        if sum(times) > 60000:
            break
    return statistics.median(times[1:] or times)


def measure(options):
    """One contestant, stage and type: a dictionary of figures."""
    device, stage, dtype = options.device, options.stage, DTYPES[options.dtype]
    batch = 2 if device == "cuda" else 1
    make = layer_inputs if options.contestant.startswith("layer") else scan_inputs
    inputs = make(stage, batch, dtype, device)
    if options.contestant == "mamba_ssm":
        inputs = channels_first(inputs)
    call = CONTESTANTS[options.contestant]
    repeats = 20 if device == "cuda" else 5
    before = memory_before(device)
    result = {}
    with torch.no_grad():
        result["forward_ms"] = milliseconds(lambda: call(inputs, stage), device, repeats)
    result["forward_peak_mb"] = (most_memory(device) - before) / 1e6
    if options.backward:
        saved = {}

        def pack(tensor):
            storage = tensor.untyped_storage()
            saved[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            out = call(inputs, stage)
        given = {t.untyped_storage().data_ptr() for t in inputs}
        result["saved_mb"] = sum(n for at, n in saved.items() if at not in given) / 1e6
        grad = torch.randn_like(out)
        result["backward_ms"] = milliseconds(
            lambda: torch.autograd.grad(out, inputs, grad, retain_graph=True), device, repeats)
        result["peak_mb"] = (most_memory(device) - before) / 1e6
    return result


def floors(stage, dtype, device):
    """Milliseconds below which no kernel can get: (forward, backward, of what)."""
    length, channels, _ = shape_of(stage)
    batch = 2 if device == "cuda" else 1
    tokens = batch * length
    steps = 3 * tokens * channels
    elements = steps * STATES
    size = torch.finfo(DTYPES[dtype]).bits // 8
    # x, delta, B, C of each direction, z and out; backward reads them, the gradient and writes all.
    read = size * (3 * tokens * (2 * channels + 2 * STATES) + 2 * tokens * channels)
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        clock = 1e3 * properties.clock_rate if hasattr(properties, "clock_rate") else 1.755e9
        units = properties.multi_processor_count * clock
        bandwidth = 4.8e12 if "H200" in properties.name else 3.35e12
        # One exponential an element, two for softplus and gate of a step; 11.5 instructions.
        forward = max((elements + 2 * steps) / (16 * units), read / bandwidth)
        backward = max(elements * 11.5 / (128 * units), 2 * read / bandwidth)
        return 1000 * forward, 1000 * backward
    # Vector instructions an element, two a clock and core: exp2 9 and 3 for the step; backward 11
    # to form the states again, 8 for the adjoint, 6 to sum dB and dC over channels. Processors
    # clock higher than the frequency that they state.
    flags = next((line for line in open("/proc/cpuinfo") if line.startswith("flags")), "")
    clock = next((float(line.split(":")[1]) for line in open("/proc/cpuinfo")
                  if line.startswith("cpu MHz")), 2600.0) * 1e6
    lanes = 16 if "avx512dq" in flags else 8 if "avx2" in flags else 4
    unit = 1000 * elements / lanes / clock / torch.get_num_threads() / 2
    return 12 * unit, 25 * unit


def measure_apart(options, contestant, stage, dtype, backward):
    """measure() in a process of its own, whose memory is then that of one contestant; the last line
    of its error where it failed."""
    command = [sys.executable, __file__, options.library, "--device", options.device, "--one",
               contestant, str(stage), dtype] + ([] if backward else ["--no-backward"])
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode != 0:
        return (run.stderr.strip().splitlines() or ["?"])[-1][:70]
    return json.loads(run.stdout.splitlines()[-1])


def measure_here(options, contestant, stage, dtype, backward):
    """The same on a GPU, whose allocator counts for itself; starting CUDA takes seconds."""
    options.contestant, options.stage, options.dtype = contestant, stage, dtype
    options.backward = backward
    try:
        return measure(options)
    except Exception as error:  # such as a missing extension, or too little memory
        return (str(error).strip().splitlines() or [type(error).__name__])[-1][:70]


def can_measure(contestant, stage, dtype, device, backward):
    if contestant == "mamba_ssm":
        return device == "cuda"
    if contestant in ("loop", "chunked"):
        # Autograd keeps every step's state several times over: 24 GB at the second stage.
        return device == "cpu" and dtype == "float32" and not (backward and stage <= 2)
    return True


def run_all(options):
    device = options.device
    header = {"torch": torch.__version__, "threads": torch.get_num_threads(),
              "device": torch.cuda.get_device_name() if device == "cuda" else next(
                  (line.split(":")[1].strip() for line in open("/proc/cpuinfo")
                   if line.startswith("model name")), platform.machine()),
              "command": "scripts/bench.sh scan"}
    print(f"{header['device']}, torch {header['torch']}"
          + (f", {header['threads']} threads" if device == "cpu" else ""))
    print(f"{'stage':5} {'type':9} {'what':18} {'forward':>9} {'backward':>9} {'ms':3}"
          f"{'of floor':>12} {'GB/s':>6} {'saved MB':>9} {'peak MB':>8}  times segmamba's")
    figures = []
    for stage in options.stages:
        for dtype in options.dtypes:
            base = {}
            for contestant in CONTESTANTS:
                if not can_measure(contestant, stage, dtype, device, False):
                    continue
                backward = can_measure(contestant, stage, dtype, device, True)
                take = measure_here if device == "cuda" else measure_apart
                figure = take(options, contestant, stage, dtype, backward)
                if isinstance(figure, str):
                    print(f"{stage:5} {dtype:9} {contestant:18} failed: {figure}")
                    figures.append({"stage": stage, "dtype": dtype, "what": contestant,
                                    "error": figure})
                    continue
                figure.update(stage=stage, dtype=dtype, what=contestant)
                forward_ms, backward_ms = figure["forward_ms"], figure.get("backward_ms", math.nan)
                reference = "layer" if contestant.startswith("layer") else "segmamba"
                if contestant == reference:
                    base[reference] = (forward_ms, backward_ms)
                text = ""
                if reference == "segmamba":
                    floor = floors(stage, dtype, device)
                    length, channels, _ = shape_of(stage)
                    batch = 2 if device == "cuda" else 1
                    size = torch.finfo(DTYPES[dtype]).bits // 8
                    moved = size * batch * length * (3 * (2 * channels + 2 * STATES) + 2 * channels)
                    figure["floor_ms"] = floor
                    figure["gb_per_s"] = moved / forward_ms / 1e6
                    text = (f"{100 * floor[0] / forward_ms:5.0f}%{100 * floor[1] / backward_ms:5.0f}%"
                            f" {figure['gb_per_s']:6.1f}")
                ratio = ""
                if contestant != reference and reference in base:
                    figure["ratio"] = (forward_ms / base[reference][0],
                                       backward_ms / base[reference][1])
                    ratio = f"{figure['ratio'][0]:.2f}x, {figure['ratio'][1]:.2f}x"
                print(f"{stage:5} {dtype:9} {contestant:18} {forward_ms:9.2f} {backward_ms:9.2f}    "
                      f"{text:>19} {figure.get('saved_mb', math.nan):9.1f} "
                      f"{figure.get('peak_mb', figure['forward_peak_mb']):8.0f}  {ratio}", flush=True)
                figures.append(figure)
    if options.output:
        with open(options.output, "w", encoding="utf-8") as file:
            json.dump({**header, "figures": figures}, file, indent=1)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("library")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu",
                        choices=("cpu", "cuda"))
    parser.add_argument("--stages", type=lambda t: [int(i) for i in t.split(",")],
                        default=[1, 2, 3, 4])
    parser.add_argument("--dtypes", type=lambda t: t.split(","), default=list(DTYPES))
    parser.add_argument("--output", help="JSON file for the figures")
    parser.add_argument("--one", nargs=3, metavar=("WHAT", "STAGE", "TYPE"), help=argparse.SUPPRESS)
    parser.add_argument("--no-backward", dest="backward", action="store_false",
                        help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.ops.load_library(os.path.abspath(options.library))
    if options.one:
        options.contestant, stage, options.dtype = options.one
        options.stage = int(stage)
        print(json.dumps(measure(options)))
    else:
        run_all(options)


if __name__ == "__main__":
    main()
