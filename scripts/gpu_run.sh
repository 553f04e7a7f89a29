#!/usr/bin/env bash
# Runs the CUDA tests, compute-sanitizer, the benchmarks, a short training, every network, inference
# beside the CPU's and within limits of memory, and the published recipe at full size, and writes
# results.json.
# Packed by scripts/gpu_check.sh as run.sh.
#
#   ./run.sh [--dry] [--only GROUP,...] [OUTPUT FOLDER]
#
# Default folder: beside this script. Needs python3 with torch on the PATH. --dry: what the CPU can
# do of it, small, to try this. Groups, in this order: tests, scan (the operators beside mamba_ssm's),
# model (passes and steps of the whole network, beside the published one's where it is packed),
# networks (all of them), end-to-end, training (the published recipe), inference.
set -uo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
device=cuda cases=8 size=64 iterations=100 only=all
if [ "${1:-}" = --dry ]; then
  shift
  device=cpu cases=4 size=48 iterations=4
fi
if [ "${1:-}" = --only ]; then
  only="$2"
  shift 2
fi
wanted() { [ "$only" = all ] || [[ ",$only," == *",$1,"* ]]; }
output="${1:-$here}"
mkdir -p "$output/logs"

python=$(command -v python3 || command -v python) || { echo "run.sh: no python3 on the PATH" >&2; exit 1; }
libraries=$("$python" - "$device" <<'PYTHON'
import glob, os, sys
try:
    import torch
except ImportError:
    sys.exit("run.sh: this python has no torch: put one that has on the PATH")
if sys.argv[1] == "cuda" and not torch.cuda.is_available():
    sys.exit("run.sh: torch finds no GPU on this machine")
site = os.path.dirname(os.path.dirname(torch.__file__))
folders = [os.path.join(os.path.dirname(torch.__file__), "lib")]
folders += sorted(glob.glob(os.path.join(site, "nvidia", "*", "lib")))
print(":".join(folders))
PYTHON
) || exit 1
export LD_LIBRARY_PATH="$here/lib:$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
export PYTHONPATH="$here/python${PYTHONPATH:+:$PYTHONPATH}" PYTHONDONTWRITEBYTECODE=1

steps="$output/logs/steps"
: >"$steps"
# step NAME COMMAND ...: its output in logs/NAME.log, its end in the results.
step() {
  local name="$1" start=$SECONDS rc=0
  shift
  "$@" >"$output/logs/$name.log" 2>&1 || rc=$?
  echo "$name $rc $((SECONDS - start))" >>"$steps"
  # As one text: others may be running.
  echo "== $name, $((SECONDS - start)) s$([ "$rc" -eq 0 ] || echo ": ended with $rc")
$(tail -n 12 "$output/logs/$name.log")"
}

if wanted tests; then
  # Beside one another, with few threads each: none of them is timed.
  threads_before="${OMP_NUM_THREADS:-}"
  export OMP_NUM_THREADS=2
  for program in ops kernels nn engine; do
    step "tests-$program" "$here/bin/test_$program" --gtest_filter='Cuda*' --gtest_brief=1 &
  done
  if [ "$device" = cuda ] &&
    sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda*/bin/compute-sanitizer 2>/dev/null | head -1) &&
    [ -n "$sanitizer" ]; then
    for tool in memcheck racecheck; do
      for program in ops kernels; do
        step "$tool-$program" timeout 180 "$sanitizer" --tool "$tool" --error-exitcode 9 \
          "$here/bin/test_$program" --gtest_filter='CudaSmall*' --gtest_brief=1 &
      done
    done
  fi
  wait
  unset OMP_NUM_THREADS
  [ -z "$threads_before" ] || export OMP_NUM_THREADS="$threads_before"
fi
[ "$device" = cpu ] || ! wanted scan ||
  step scan "$python" "$here/scan_bench.py" "$here/lib/libsegmamba_ops.so" --device cuda \
    --output "$output/logs/scan.json"

# Where a pass and a step of the published size go, and the published model beside them.
if wanted model; then
  patch=(--size 128)
  [ "$device" = cuda ] || patch=(--size 32)
  side_by_side=("$here/published" "$here/bin/segmamba-model" --device "$device" "${patch[@]}"
    --rounds 1 --passes 6)
  for precision in bf16 fp32; do
    step "pass-$precision" "$here/bin/segmamba-model" bench --config "$here/upstream-code.yaml" \
      --device "$device" --precision "$precision" "${patch[@]}"
    step "step-$precision" "$here/bin/segmamba-model" bench --config "$here/upstream-code.yaml" \
      --device "$device" --precision "$precision" "${patch[@]}" --batch 2 --training
    [ -d "$here/published" ] || continue
    step "published-pass-$precision" "$python" "$here/bench_model.py" "${side_by_side[@]}" \
      --precision "$precision"
    step "published-step-$precision" "$python" "$here/bench_model.py" "${side_by_side[@]}" \
      --precision "$precision" --batch 2 --training
  done
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
end_to_end() {
  set -e
  "$here/bin/segmamba-data" phantom --output "$work/data" --cases "$cases" --size "$size" --seed 1
  "$here/bin/segmamba-data" split "$work/data" --seed 1 --output "$work/split.yaml"
  "$here/bin/segmamba-train" --config "$here/demo.yaml" --set data.root="$work/data" \
    --set data.split="$work/split.yaml" --set training.iterations="$iterations" \
    --set training.augment_on=device --device "$device" --output "$work/run"
  "$here/bin/segmamba-infer" --checkpoint "$work/run/checkpoints/last.pt" --input "$work/data" \
    --device "$device" --split "$work/split.yaml" --part test --output "$work/predictions"
  "$here/bin/segmamba-eval" --prediction "$work/predictions" --reference "$work/data" \
    --split "$work/split.yaml" --part test --output "$work/evaluation"
}
! wanted end-to-end && ! wanted inference || step end-to-end end_to_end

# Every network at full size, as in the paper: parameters, time and memory.
networks=(--size 128 --precision bf16 --training)
[ "$device" = cuda ] || networks=(--size 64 --models segresnet unetr)
! wanted networks || step networks "$here/bin/segmamba-model" compare --device "$device" "${networks[@]}"

# The published recipe at full size on cases of 240x240x155: memory and time, by precision and with
# recomputation. The published code takes 17,976 MB on one A100.
training() {
  set -e
  local name="$1"
  shift
  [ -d "$work/brats" ] ||
    "$here/bin/segmamba-data" phantom --output "$work/brats" --cases 5 --profile brats2023 --seed 1
  "$here/bin/segmamba-train" --config "$here/upstream-code.yaml" --set data.root="$work/brats" \
    --set training.iterations=200 --set validation.every=0 --set validation.patches_every=0 \
    "$@" --output "$work/$name"
  "$here/bin/segmamba-train" --compare "$work/$name"
}
full=()
if [ "$device" = cuda ] && { wanted training || wanted inference; }; then
  step training-bf16 training bf16 --set training.precision=bf16
  full=(--full "$work/bf16/checkpoints/last.pt" "$work/brats")
fi
! wanted inference || step inference "$python" "$here/inference_check.py" "$here/bin/segmamba-infer" \
  --small "$work/run/checkpoints/last.pt" "$work/data" ${full[@]+"${full[@]}"} \
  --device "$device" --output "$output/logs/inference.json"
if [ "$device" = cuda ] && wanted training; then
  step training-graph training graph --set training.precision=bf16 training.graph=true
  step training-fp16 training fp16 --set training.precision=fp16
  step training-bf16-recompute training recompute --set training.precision=bf16 \
    --set 'training.recompute=[all]'
fi

"$python" - "$output" "$(cat "$here/version")" <<'PYTHON'
import json, os, sys
import torch
output, version = sys.argv[1:]
steps = [line.split() for line in open(os.path.join(output, "logs", "steps"))]
on_gpu = torch.cuda.is_available()
result = {"device": torch.cuda.get_device_name() if on_gpu else "cpu", "torch": torch.__version__, "version": version,
          "steps": {name: {"exit": int(rc), "seconds": int(seconds), "end": open(
              os.path.join(output, "logs", name + ".log"), errors="replace").read()[-2000:]}
              for name, rc, seconds in steps}}
for name in ("scan", "inference"):
    figures = os.path.join(output, "logs", name + ".json")
    if os.path.exists(figures):
        result[name] = json.load(open(figures))
with open(os.path.join(output, "results.json"), "w") as file:
    json.dump(result, file, indent=1)
print("results: " + os.path.join(output, "results.json"))
PYTHON
! grep -qv ' 0 [0-9]*$' "$steps"
