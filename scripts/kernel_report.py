#!/usr/bin/env python3
"""What the compiler made of the CUDA kernels: registers, spills, occupancy, instructions.

  scripts/kernel_report.py [--check] OBJECT.o ...

Reads objects of kernels/*.cu (build/kernels/CMakeFiles/segmamba_kernels.dir/) with cuobjdump, which
is taken from the PATH or from the venv of .deps/. For the loops over steps, prints the
instructions per element (channel, state and step) of the code as it stands, both sides of every
branch counted, and its exponentials. --check ends with 1 where a kernel (float64 aside, which only
checks gradients) spills or has grown beyond the budget below. Ends with 77 without cuobjdump.
"""

import glob
import os
import re
import shutil
import subprocess
import sys

# Instructions per element that a loop may have: some 10 % over what docs/performance.md states.
BUDGET = {
    "SegmentScan end": 8.75,
    "SegmentScan apart": 10.5,
    "SegmentScan in order": 13.1,
    "SegmentAdjoint": 9.0,
    "SegmentBackward walk": 5.0,
    "SegmentBackward back": 31.0,
}
SM_REGISTERS, SM_WARPS, SM_SHARED = 65536, 64, 227 * 1024  # sm_90
EMIT = {"0": "end", "1": "apart", "2": "in order"}


def find_tool(name):
    beside = glob.glob(os.path.join(os.path.dirname(__file__), "..", ".deps", "venv", "lib", "*",
                                    "site-packages", "triton", "backends", "nvidia", "bin", name))
    return shutil.which(name) or (beside[0] if beside else None)


def run(*command):
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    text = subprocess.run(["c++filt"], input=text, capture_output=True, text=True, check=True).stdout
    return text.replace("segmamba::kernels::", "")


def short_name(function):
    match = re.search(r"run_(?:kernel|items)<(\w+)<(\w+)(?:, (?:\(Emit\))?(\w+))?", function)
    if not match:
        return None
    kernel, dtype, extra = match.groups()
    if kernel == "SegmentScan":
        kernel += " " + EMIT[extra]
    elif extra:
        kernel += f" {extra} taps"
    return kernel, dtype


def resources(cuobjdump, path):
    found = {}
    name = None
    for line in run(cuobjdump, "-res-usage", path).splitlines():
        if "Function" in line:
            name = short_name(line)
        elif name and "REG:" in line:
            found[name] = {k: int(v) for k, v in re.findall(r"(REG|STACK|LOCAL):(\d+)", line)}
    return found


def loops(cuobjdump, path):
    """Innermost loops with exponentials: name -> [(instructions, exponentials)], in code order."""
    found = {}
    name, code = None, []

    def close():
        if not name:
            return
        spans = []
        for address, text in code:
            jump = re.search(r"\bBRA\b.*?(0x[0-9a-f]+)", text)
            if jump and int(jump.group(1), 16) < address:
                start = int(jump.group(1), 16)
                body = [t for a, t in code if start <= a <= address]
                spans.append((start, address, len(body), sum("MUFU.EX2" in t for t in body)))
        found[name] = [(n, e) for start, end, n, e in spans if e >= 16 and not any(
            start <= s and t <= end and (s, t) != (start, end) and x >= e / 2
            for s, t, _, x in spans)]

    for line in run(cuobjdump, "-sass", path).splitlines():
        match = re.match(r"\s*Function : (.*)", line)
        if match:
            close()
            name, code = short_name(match.group(1)), []
        match = re.match(r"\s*/\*([0-9a-f]{4,})\*/\s+(.*?);", line)
        if match:
            code.append((int(match.group(1), 16), match.group(2)))
    close()
    return found


def resident_warps(registers, threads):
    """Warps of one multiprocessor whose registers fit: they are given by quarters of the file."""
    per_warp = -(-registers * 32 // 256) * 256
    warps = min(SM_REGISTERS // 4 // per_warp * 4, SM_WARPS)
    return warps // (threads // 32) * (threads // 32)


def main():
    arguments = [a for a in sys.argv[1:] if a != "--check"]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(__doc__)
        return 0 if arguments else 2
    cuobjdump = find_tool("cuobjdump")
    if not cuobjdump:
        print("kernel_report.py: there is no cuobjdump on the PATH or in .deps/")
        return 77
    failures = []
    print(f"{'kernel':28} {'type':9} {'registers':>9} {'spill B':>7} {'warps/SM':>8} "
          f"{'instructions/element':>20} {'exponentials':>12}")
    for path in arguments:
        sass = loops(cuobjdump, path)
        for (kernel, dtype), used in sorted(resources(cuobjdump, path).items()):
            spill = used["STACK"] + used["LOCAL"]
            threads = 256 if kernel.startswith(("Sum", "Carry", "Gate", "ConvWeight")) else 96
            row = (f"{dtype:9} {used['REG']:9} {spill:7} {resident_warps(used['REG'], threads):8}")
            parts = sass.get((kernel, dtype), []) if dtype != "double" else []
            print(f"{kernel:28} {row}")
            if spill and dtype != "double":
                failures.append(f"{kernel} of {dtype} spills {spill} bytes")
            for i, (instructions, exponentials) in enumerate(parts):
                # A loop over a tile of 8 steps of 16 states has 128 elements; the first walk of
                # the backward is a loop over spans with the walk's own loop (2 steps) in it.
                name = kernel
                elements = 128
                if kernel == "SegmentBackward":
                    name += " walk" if exponentials <= 40 else " back"
                    if exponentials <= 40:
                        elements = 32
                count = instructions / elements
                print(f"{'  ' + name:28} {'':36} {count:20.1f} {exponentials / elements:12.2f}")
                if name in BUDGET and count > BUDGET[name]:
                    failures.append(f"{name} of {dtype} takes {count:.1f} instructions an element, "
                                    f"its budget is {BUDGET[name]:.1f}")
    for failure in failures:
        print("kernel_report.py: " + failure)
    return 1 if failures and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
