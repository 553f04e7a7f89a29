"""The work of soak.sh: starts a training, samples its memory, stops it, and reports both."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

CONFIG = """\
model:
  dims: [4, 8, 8]
  depths: [1, 1, 1]
  hidden_size: 16
data:
  root: {data}
  cache: "{cache}"
  patch_size: [16, 16, 16]
training:
  iterations: 100000000
  threads: 1
  workers: 1
  ema_decay: 0.99
  checkpoint_every: 500
validation:
  every: 2000
  patches_every: 500
"""
SAMPLE_SECONDS, FEWEST_SAMPLES = 5, 100
LARGEST_GROWTH, LARGEST_SLOWING = 0.01, 0.25


def sample(process):
    """Seconds of processor time and resident bytes of a running process."""
    stat = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    ticks = int(stat[11]) + int(stat[12])
    return ticks / os.sysconf("SC_CLK_TCK"), int(stat[21]) * os.sysconf("SC_PAGE_SIZE")


def train(programs, folder, seconds):
    """Rows of wall time, processor time and memory, also written to memory.csv."""
    run = folder / "run"
    words = [programs / "segmamba-train", "--config", folder / "soak.yaml", "--output", run]
    if (run / "checkpoints/last.pt").exists():
        words.append("--resume")
    rows = []
    with open(folder / "train.log", "a") as log, open(folder / "memory.csv", "w") as table:
        table.write("seconds,processor_seconds,resident_bytes\n")
        started = time.monotonic()
        process = subprocess.Popen(words, stdout=log, stderr=subprocess.STDOUT)
        while (now := time.monotonic() - started) < seconds and process.poll() is None:
            try:
                rows.append((now, *sample(process)))
            except FileNotFoundError:  # it ended in this moment
                break
            table.write("{:.1f},{:.2f},{}\n".format(*rows[-1]))
            table.flush()
            time.sleep(SAMPLE_SECONDS)
        process.send_signal(signal.SIGTERM)
        code = process.wait()
    if code != 128 + signal.SIGTERM:
        sys.exit(f"soak: the training ended with {code}: see {folder / 'train.log'}")
    return np.array(rows)


def step_seconds(metrics, first_row):
    with open(metrics) as file:
        rows = list(csv.DictReader(file))[first_row:]
    return np.array([float(row["seconds"]) for row in rows if row.get("seconds")])


def count_rows(metrics):
    return sum(1 for _ in open(metrics)) - 1 if metrics.exists() else 0


def main():
    programs, folder, hours = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
    least = FEWEST_SAMPLES * SAMPLE_SECONDS / 3600
    if hours < least:
        sys.exit(f"soak: {hours} hours are too few to say anything: take {1.1 * least:.2f} at least")
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / "data"
    if not data.exists():
        subprocess.run([programs / "segmamba-data", "phantom", "--output", data, "--cases", "6",
                        "--size", "32"], check=True)
    cache, config = folder / "cache", folder / "soak.yaml"
    config.write_text(CONFIG.format(data=data, cache=""))
    subprocess.run([programs / "segmamba-data", "prepare", "--config", config, "--output", cache],
                   check=True)
    config.write_text(CONFIG.format(data=data, cache=cache))
    metrics = folder / "run/metrics.csv"
    before = count_rows(metrics)
    rows = train(programs, folder, hours * 3600)
    steps = step_seconds(metrics, before)

    if len(steps) < FEWEST_SAMPLES:
        sys.exit(f"soak: {len(steps)} steps are too few to say anything")
    tenths = np.array_split(rows[:, 2], 10)
    settled = rows[len(tenths[0]):]
    slope = np.polyfit(settled[:, 0] / 3600, settled[:, 2] / 2**20, 1)[0]
    growth = np.median(tenths[9]) / np.median(tenths[1]) - 1
    print(f"{rows[-1, 0] / 3600:.2f} hours, {len(steps)} steps")
    print("tenth  resident MiB (median)  step ms (median)")
    times = [np.median(part) for part in np.array_split(steps, 10)]
    slowing = times[9] / times[1] - 1
    for i, (memory, time_of_step) in enumerate(zip(tenths, times)):
        print(f"{i + 1:5}  {np.median(memory) / 2**20:21.1f}  {1000 * time_of_step:16.2f}")
    print(f"resident memory: slope {slope:+.2f} MiB an hour after the first tenth; last tenth beside "
          f"the second {100 * growth:+.2f} %, at most {rows[:, 2].max() / 2**20:.1f} MiB; time of a step {100 * slowing:+.1f} %")
    sys.exit(int(growth > LARGEST_GROWTH or slowing > LARGEST_SLOWING))


if __name__ == "__main__":
    main()
