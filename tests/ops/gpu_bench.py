"""Scan on the GPU at the four stages of a 128^3 patch: gpu_bench.py LIBSEGMAMBA_OPS.SO.

Prints milliseconds of forward and backward (B = 2, three directions), medians of 20 runs.
"""

import statistics
import sys

import torch

torch.ops.load_library(sys.argv[1])


def time_ms(call):
    times = []
    for _ in range(25):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        call()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times[5:])


def main():
    print(torch.cuda.get_device_name())
    print("stage  dtype      forward ms  backward ms")
    for stage in range(4):
        side = 64 >> stage
        length, channels = side**3, 96 << stage
        interslice = [1, length // side, side, 0, 1, length // side, 0]
        orders = [1, 1, length, 0, 0, 1, 0, 1, 1, length, 0, 0, 1, 1, *interslice]
        for dtype in (torch.float32, torch.bfloat16):
            def data(*size):
                return torch.randn(size, device="cuda", dtype=dtype, requires_grad=True)

            def parameter(tensor):
                return tensor.cuda().requires_grad_(True)

            inputs = [data(3, 2, length, channels), data(3, 2, length, channels),
                      parameter(-torch.rand(3, channels, 16) * 4), data(3, 2, length, 16),
                      data(3, 2, length, 16), parameter(torch.randn(3, channels)),
                      data(2, length, channels), parameter(torch.randn(3, channels))]
            scan = torch.ops.segmamba.selective_scan_directions

            def forward():
                return scan(*inputs, True, orders)

            out = forward()
            grad = torch.randn_like(out)
            backward = time_ms(
                lambda: torch.autograd.grad(out, inputs, grad, retain_graph=True))
            with torch.no_grad():
                print(f"{stage + 1:5}  {str(dtype)[6:]:9}  {time_ms(forward):10.3f}  "
                      f"{backward:11.3f}")
            del out, grad, inputs


if __name__ == "__main__":
    main()
