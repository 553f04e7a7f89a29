#!/usr/bin/env python3
"""What the compiler made of the CUDA kernels: registers, spills, shared memory, occupancy,
instructions an element.

  scripts/kernel_report.py [--check] OBJECT.o ...

Reads objects of kernels/*.cu (build/kernels/CMakeFiles/segmamba_kernels.dir/) with cuobjdump, which
is taken from the PATH or from the venv of .deps/. For the loops over steps, prints the
instructions per element (channel, state and step) of the code as it stands, both sides of every
branch counted, and its exponentials. --check ends with 1 where a kernel (float64 aside, which only
checks gradients) spills or has grown beyond the budget below. Ends with 77 without cuobjdump.

The last table adds up the sweeps of each direction beside what their recurrences alone take.
"""

import glob
import os
import re
import shutil
import subprocess
import sys

# Instructions per element that a loop may have: some 5 % over what docs/performance.md states.
BUDGET = {
    "SegmentScan end": 7.7,
    "SegmentScan apart": 8.6,
    "SegmentScan in order": 9.9,
    "SegmentAdjoint": 7.2,
    "SegmentBackward walk": 4.8,
    "SegmentBackward back": 24.7,
}
# What the recurrences themselves take, element by element: delta A, its exponential and
# h = decay h + delta x B are 4, y += C h is 1; g = (g + gy C) decay is 4; a step back is 10.
RECURRENCE = {
    "SegmentScan end": 4, "SegmentScan apart": 5, "SegmentScan in order": 5, "SegmentAdjoint": 4,
    "SegmentBackward walk": 4, "SegmentBackward back": 14,
}
SWEEPS = {
    "forward, directions apart": ("SegmentScan end", "SegmentScan apart"),
    "forward, directions in order": ("SegmentScan end", "SegmentScan in order"),
    "backward": ("SegmentAdjoint", "SegmentBackward walk", "SegmentBackward staging",
                 "SegmentBackward back"),
}
SM_REGISTERS, SM_WARPS, SM_SHARED, BLOCK_RESERVED = 65536, 64, 228 * 1024, 1024  # sm_90
BLOCK_THREADS = 96  # of the scan's kernels where channels are a multiple of 96; others have 256
SOURCE = {"(AugmentSource)0": "copy", "(AugmentSource)1": "linear", "(AugmentSource)2": "cubic"}
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
    match = re.search(r"run_(?:kernel|items)<(Augment\w+)(?:<([^>]*)> ?)?(?:, (\d+))?>", function)
    if match:
        kernel, arguments, shared = match.groups()
        words = (arguments or "").split(", ")
        if kernel == "AugmentSample":
            source, *flags = words
            words = [SOURCE[source], *(w for w, f in zip(("4", "moved"), flags) if f == "true")]
        elif kernel == "AugmentReduce":
            words = ["gamma" if words == ["true"] else "plain"]
        return " ".join([kernel, *words]).strip(), "float", int(shared or 0)
    match = re.search(r"run_(?:kernel|items)<(Norm\w+)<(?:(Merge\w+)<)?(\w+)(?:, (\d+))?[ >]+(?:, (\d+))?",
                      function)
    if match:
        kernel, merged, dtype, load, shared = match.groups()
        extra = f" {merged}" if merged else f" {load} a load" if load else ""
        return kernel + extra, dtype, int(shared or 0)
    match = re.search(r"run_(?:kernel|items)<(\w+)<(\w+)(?:, (?:\(Emit\))?(\w+))?>(?:, (\d+))?", function)
    if not match:
        return None
    kernel, dtype, extra, shared = match.groups()
    if kernel == "SegmentScan":
        kernel += " " + EMIT[extra]
    elif extra:
        kernel += f" {extra} taps"
    return kernel, dtype, int(shared or 0)


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
    """Loops that form exponentials: name -> [(instructions, exponentials)], in code order."""
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
        kept = []
        for start, end, n, e in sorted(spans, key=lambda span: span[1] - span[0]):
            inner = [k for k in kept if start <= k[0] and k[1] <= end]
            outermost = [k for k in inner if not any(
                o is not k and o[0] <= k[0] and k[1] <= o[1] for o in inner)]
            # A loop over loops does no work of its own.
            if e >= 16 and sum(k[3] for k in outermost) < 0.9 * e:
                kept.append((start, end, n, e))
        found[name] = [(n, e) for _, _, n, e in sorted(kept)]

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


def resident_warps(registers, shared, threads):
    """Warps of one multiprocessor whose registers (given by quarters of the file) and shared memory
    fit."""
    warps_of_block = threads // 32
    per_warp = -(-registers * 32 // 256) * 256
    blocks = min(SM_REGISTERS // 4 // per_warp * 4, SM_WARPS) // warps_of_block
    return min(blocks, SM_SHARED // (shared + BLOCK_RESERVED)) * warps_of_block


def parts_of(kernel, loops_found):
    """(name, instructions, exponentials) an element of a kernel's loops over steps."""
    # A loop over a tile of 8 steps of 16 states has 128 elements. The first walk of the backward is
    # a loop over spans (staging) with the walk's own loop, of 2 steps, in it.
    if kernel != "SegmentBackward" or len(loops_found) != 3:
        return [(kernel, n / 128, e / 128) for n, e in loops_found]
    (spans, spans_e), (walk, walk_e), (back, back_e) = loops_found
    return [("SegmentBackward walk", walk / 32, walk_e / 32),
            ("SegmentBackward staging", (spans - walk) / 128, (spans_e - walk_e) / 128),
            ("SegmentBackward back", back / 128, back_e / 128)]


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
    counts = {}
    print(f"{'kernel':28} {'type':9} {'registers':>9} {'spill B':>7} {'shared B':>8} {'warps/SM':>8} "
          f"{'instructions/element':>20} {'exponentials':>12}")
    for path in arguments:
        sass = loops(cuobjdump, path)
        for (kernel, dtype, shared), used in sorted(resources(cuobjdump, path).items()):
            spill = used["STACK"] + used["LOCAL"]
            is_item = kernel.startswith(("Sum", "Carry", "Gate", "ConvWeight", "Augment"))
            warps = resident_warps(used["REG"], shared, 256 if is_item or kernel.startswith("Norm") else BLOCK_THREADS)
            print(f"{kernel:28} {dtype:9} {used['REG']:9} {spill:7} {shared:8} {warps:8}")
            if dtype == "double":
                continue
            if spill:
                failures.append(f"{kernel} of {dtype} spills {spill} bytes")
            for name, count, exponentials in parts_of(kernel, sass.get((kernel, dtype, shared), [])):
                counts[name, dtype] = count
                print(f"{'  ' + name:28} {'':45} {count:20.1f} {exponentials:12.2f}")
                if name in BUDGET and count > BUDGET[name]:
                    failures.append(f"{name} of {dtype} takes {count:.1f} instructions an element, "
                                    f"its budget is {BUDGET[name]:.1f}")
    print(f"\n{'all sweeps':30} {'type':9} {'instructions/element':>20} {'recurrences alone':>18}")
    for sweep, names in SWEEPS.items():
        for dtype in ("float", "BFloat16", "Float16"):
            if all((name, dtype) in counts for name in names):
                total = sum(counts[name, dtype] for name in names)
                print(f"{sweep:30} {dtype:9} {total:20.1f} "
                      f"{sum(RECURRENCE.get(name, 0) for name in names):18}")
    for failure in failures:
        print("kernel_report.py: " + failure)
    return 1 if failures and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
