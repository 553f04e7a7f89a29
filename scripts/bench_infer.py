"""What segmamba-infer takes beside the model: bench_infer.py BIN WORK CASES WINDOW

Runs it on WORK/cases with WORK/run's model, one window a case, and subtracts as many passes of the
model alone, timed in between.
"""
import re
import statistics
import subprocess
import sys
import time

bin_folder, work, count, window = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
outputs = {
    "labels": ["--no-report"],
    "labels and report.html": [],
    "pictures and regions as well": ["--pictures", "--regions"],
    "probabilities and uncertainty as well": [
        "--pictures", "--regions", "--probabilities", "--uncertainty"
    ],
}


def seconds_of_a_pass() -> float:
    command = [f"{bin_folder}/segmamba-model", "bench", "--config", f"{work}/run/config.yaml",
               "--size", window, "--precision", "fp32"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(re.search(r"threads: ([0-9.]+) s", text)[1])


def seconds_of_a_case(options: list[str]) -> float:
    size = "[" + window.replace("x", ", ") + "]"
    command = [f"{bin_folder}/segmamba-infer", "--checkpoint", f"{work}/run/checkpoints/last.pt",
               "--input", f"{work}/cases", "--output", f"{work}/out", "--overwrite", "--quiet",
               "--no-tta", "--precision", "fp32", "--set", f"data.patch_size={size}", *options]
    start = time.perf_counter()
    subprocess.run(command, check=True)
    return (time.perf_counter() - start) / count


passes = [seconds_of_a_pass()]
print(f"{'written':40}{'s a case':>10}{'beside the model':>18}")
for name, options in outputs.items():
    case = seconds_of_a_case(options)
    passes.append(seconds_of_a_pass())
    print(f"{name:40}{case:10.2f}{case - statistics.mean(passes[-2:]):18.2f}", flush=True)
print("passes alone: " + ", ".join(f"{seconds:.2f} s" for seconds in passes))
