#!/usr/bin/env python3
"""Checks segmamba-infer on a GPU: against the CPU, within limits of memory, and without enough of it.

  inference_check.py PROGRAM --small CHECKPOINT CASES --full CHECKPOINT CASES --output FILE
  inference_check.py PROGRAM --small CHECKPOINT CASES --output FILE --device cpu

--small: a model and cases that the CPU segments in seconds, for what must come out the same.
--full: a model of the published size and cases of 240x240x155, for memory and time.
On the CPU it compares that with itself and leaves out what only a GPU has: it tries this script.
Needs torch. Ends with 1 where a check fails; FILE has all figures.
"""

import argparse
import gzip
import json
import pathlib
import struct
import subprocess
import sys
import tempfile
import threading
import time

import torch

GIB = 1 << 30


def read_nifti(path):
    """Voxels in the file's order, scaled; of the types that segmamba-infer writes."""
    content = gzip.decompress(path.read_bytes())
    (kind,) = struct.unpack_from("<h", content, 70)
    offset, slope, intercept = struct.unpack_from("<3f", content, 108)
    data = bytearray(content[int(offset):])
    stored = {2: torch.uint8, 16: torch.float32, 512: torch.int16}[kind]
    values = torch.frombuffer(data, dtype=stored)
    if kind == 2:
        return values
    if kind == 512:  # unsigned, which not every torch has
        values = values.to(torch.int32) & 0xFFFF
    return values.double() * (slope or 1) + intercept


def dice(one, other):
    total = int((one > 0).sum() + (other > 0).sum())
    common = int(((one == other) & (one > 0)).sum())
    return 2 * common / total if total else 1.0


class PeakMemory:
    """What others than this process take of the GPU at most, looked at every few milliseconds."""

    def __enter__(self):
        self.bytes, self.ended = 0, threading.Event()
        self.before = torch.cuda.mem_get_info()[0]
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()
        return self

    def watch(self):
        while not self.ended.wait(0.003):
            self.bytes = max(self.bytes, self.before - torch.cuda.mem_get_info()[0])

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()


class Check:
    def __init__(self, arguments, work):
        self.arguments, self.work = arguments, work
        self.on_gpu = arguments.device != "cpu"
        self.checks, self.figures, self.failed = [], {}, False

    def infer(self, name, data, *options, device=None, expect=0):
        """Runs the program into the folder `name`; its report."""
        checkpoint, cases = data
        folder = self.work / name
        command = [self.arguments.program, "--checkpoint", checkpoint, "--input", cases,
                   "--output", folder, "--no-report", "--device", device or self.arguments.device,
                   *options]
        start = time.monotonic()
        ended = subprocess.run([str(word) for word in command], capture_output=True, text=True)
        self.figures[name] = {"seconds": round(time.monotonic() - start, 2)}
        if ended.returncode != expect:
            self.expect(name + ": exit code", ended.returncode, expect, ended.returncode == expect)
            print(ended.stderr, end="")
            return None
        report = json.loads((folder / "report.json").read_text())
        self.figures[name]["cases"] = [case.get("seconds") for case in report["cases"]]
        return report

    def expect(self, name, value, bound, ok):
        value = round(value, 7) if isinstance(value, float) else value
        self.checks.append({"check": name, "value": value, "bound": bound, "ok": bool(ok)})
        self.failed |= not ok
        print(f"{'ok  ' if ok else 'FAIL'} {name}: {value} (bound {bound})", flush=True)

    def compare(self, name, reference, least_dice, most_difference):
        """Labels, and the maps that both have, of two runs."""
        one, other = self.work / name, self.work / reference
        files = sorted(path.name for path in other.glob("*.nii.gz"))
        if not files or not one.is_dir():
            self.expect(f"{name} beside {reference}: cases", len(files), "1 or more", False)
            return
        score = min(dice(read_nifti(one / file), read_nifti(other / file)) for file in files)
        self.expect(f"{name} beside {reference}: least Dice", score, least_dice,
                    score >= least_dice)
        for kind in ("probabilities", "entropy", "disagreement"):
            if not (one / kind).is_dir():
                continue
            difference = max(float((read_nifti(one / kind / file) -
                                    read_nifti(other / kind / file)).abs().max())
                             for file in files)
            self.expect(f"{name} beside {reference}: {kind}", difference, most_difference,
                        difference <= most_difference)

    def results(self):
        """The same labels and maps in every precision and any number of windows a pass. Maps are
        written in half precision, steps of 1e-3 near 1."""
        data = self.arguments.small
        maps = ["--probabilities", "--uncertainty"]
        self.infer("cpu", data, *maps, "--precision", "fp32", device="cpu")
        self.infer("fp32", data, *maps, "--precision", "fp32")
        self.compare("fp32", "cpu", 0.999, 2e-3)
        self.infer("windows", data, *maps, "--precision", "fp32", "--set",
                   "inference.sw_batch_size=5")
        self.compare("windows", "fp32", 0.999, 2e-3)
        if self.on_gpu:
            self.infer("tf32", data, "--precision", "tf32")
            self.compare("tf32", "cpu", 0.995, 0)
        for precision in ("bf16", "fp16"):
            self.infer(precision, data, "--precision", precision)
            self.compare(precision, "cpu", 0.995, 0)

    def memory_and_time(self):
        data = self.arguments.full
        plain = ["--no-tta", "--set", "inference.sw_batch_size=4"]
        for precision in ("fp32", "fp16", "bf16"):
            with PeakMemory() as peak:
                self.infer("full-" + precision, data, *plain, "--precision", precision)
            self.figures["full-" + precision]["gpu_gib"] = round(peak.bytes / GIB, 2)
            if precision != "fp32":
                self.compare("full-" + precision, "full-fp32", 0.995, 0)
        self.infer("full-tta", data, "--precision", "bf16")

        limit = 8
        many = ["--no-tta", "--precision", "fp32", "--set", "inference.sw_batch_size=64"]
        with PeakMemory() as peak:
            self.infer("limited", data, *many, "--max-gpu-memory", f"{limit}GiB")
        self.expect("limited: GiB of the GPU", peak.bytes / GIB, limit, peak.bytes <= limit * GIB)
        self.compare("limited", "full-fp32", 0.999, 0)
        report = self.infer("refused", data, *many, "--max-gpu-memory", "1GiB", expect=3)
        errors = [case.get("error", "") for case in report["cases"]] if report else []
        self.expect("refused: all say why", errors, "the limit is",
                    errors and all("the limit is" in error for error in errors))

        # Another program has taken most of the GPU.
        left = 7 * GIB
        free, _ = torch.cuda.mem_get_info()
        taken = torch.empty(max(free - left, 0), dtype=torch.uint8, device="cuda")
        report = self.infer("short", data, *many)
        del taken
        torch.cuda.empty_cache()
        notes = [note for case in (report or {}).get("cases", []) for note in case.get("notes", [])]
        self.expect("short of memory: notes", notes, "going on with",
                    any("going on with" in note for note in notes))
        self.compare("short", "full-fp32", 0.999, 0)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    for name in ("--small", "--full"):
        parser.add_argument(name, nargs=2, metavar=("CHECKPOINT", "CASES"))
    parser.add_argument("--output", type=pathlib.Path, required=True)
    parser.add_argument("--device", default="cuda")
    arguments = parser.parse_args()
    if not arguments.small or (arguments.device != "cpu" and not arguments.full):
        parser.error("--small is needed, and --full for a GPU")
    with tempfile.TemporaryDirectory() as folder:
        check = Check(arguments, pathlib.Path(folder))
        check.results()
        if check.on_gpu:
            check.memory_and_time()
    arguments.output.write_text(json.dumps({"checks": check.checks, "runs": check.figures},
                                           indent=1))
    print(f"{sum(entry['ok'] for entry in check.checks)} of {len(check.checks)} checks hold")
    sys.exit(check.failed)


if __name__ == "__main__":
    main()
