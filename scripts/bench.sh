#!/usr/bin/env bash
# Benchmarks against the tools that others use, side by side in one run on this machine.
#
#   scripts/bench.sh eval [CASES]    scoring: one case by convention, then CASES (default 100) files
#   scripts/bench.sh data [OPTIONS]  augmentation: each transform and the published recipe on a patch,
#                                    beside nnU-Net's batchgeneratorsv2; options of bench_data.py
#   scripts/bench.sh train [OPTIONS] the training loop beside forward, backward and update alone;
#                                    options of tests/bench/train_bench.cpp
#   scripts/bench.sh model [OPTIONS] where a forward pass and a training step of the whole network go;
#                                    with SEGMAMBA_PUBLISHED, both beside the published model; options
#                                    of segmamba-model bench (default --size 64)
#   scripts/bench.sh infer [CASES]   segmamba-infer on CASES (default 8) of 240x240x155: what a case
#                                    takes beside the passes of the model
#   scripts/bench.sh post            post-processing of label maps, time and memory
#   scripts/bench.sh scan [OPTIONS]  the scan and the Mamba layer beside PyTorch's (on a GPU:
#                                    mamba_ssm's), all stages; options of tests/bench/scan_bench.py
#
# Sets up, builds, and installs the references from PyPI into .deps/bench-venv. Official scripts
# that are not on PyPI are timed where their checkouts are named:
#   BRATS2023_METRICS   folder with metrics.py of github.com/rachitsaluja/BraTS-2023-Metrics
#   BRATS2024_METRICS   folder with metrics_GLI.py of github.com/rachitsaluja/BraTS-2024-Metrics
#   SEGMAMBA_PUBLISHED  checkout of github.com/ge-xing/SegMamba
# `eval` (but for its last figure), `data` and `post` run on one core where taskset exists, the others
# on all cores unless their options say otherwise.
. "$(dirname "$0")/common.sh"

venv="$root/.deps/bench-venv"
one_core=()
command -v taskset >/dev/null && one_core=(taskset -c 0)

# install_references NAME PACKAGE...: the references of benchmark NAME, beside those of the others.
install_references() {
  local name="$1"
  shift
  [ "$(cat "$venv/.installed-$name" 2>/dev/null)" = "$*" ] && return
  say "Installing $* into .deps/bench-venv"
  [ -x "$venv/bin/python" ] || python3 -m venv "$venv"
  # Whatever needs torch takes the one that is there already.
  "$root/.deps/venv/bin/python" -c 'import site; print(site.getsitepackages()[0])' \
    >"$(echo "$venv"/lib/python3*/site-packages)/torch-of-the-build.pth"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@" ||
    die "pip could not install the references; run the script again to retry"
  echo "$*" >"$venv/.installed-$name"
}

make_work_folder() {
  work=$(mktemp -d)  # not local: the trap needs it when the function has ended
  trap 'rm -rf "$work"' EXIT
}

name_processor() { grep -m 1 'model name' /proc/cpuinfo | sed 's/.*: //' || true; }

bench_eval() {
  local count="${1:-100}"
  SEGMAMBA_CMAKE_ARGS="${SEGMAMBA_CMAKE_ARGS:-} -DSEGMAMBA_BUILD_BENCH=ON" \
    "$root/scripts/build.sh" bench_eval segmamba-eval
  install_references eval medpy==0.5.2 monai==1.6.1 surface-distance "numpy<2.3" scipy nibabel \
    connected-components-3d pandas
  make_work_folder

  say "One case of 240x240x155, three regions, one core, without reading files"
  name_processor
  "${one_core[@]}" "$build/tests/bench_eval" --repeats 7 --write "$work" >"$work/ours.txt"
  "${one_core[@]}" "$venv/bin/python" "$root/scripts/bench_eval.py" "$work"

  say "segmamba-eval on $count cases, files and all, on $(nproc) cores"
  mkdir "$work/many-reference" "$work/many-prediction"
  local i
  for ((i = 0; i < count; ++i)); do
    local kind
    kind=$(echo tumour specks metastases | cut -d' ' -f$((i % 3 + 1)))
    ln "$work/reference/$kind.nii.gz" "$work/many-reference/case-$i.nii.gz"
    ln "$work/prediction/$kind.nii.gz" "$work/many-prediction/case-$i.nii.gz"
  done
  "$venv/bin/python" - "$count" "$build/bin/segmamba-eval" --prediction "$work/many-prediction" \
    --reference "$work/many-reference" --output "$work/scores" <<'PYTHON'
import resource, subprocess, sys, time
start = time.perf_counter()
subprocess.run(sys.argv[2:], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
seconds = time.perf_counter() - start
count = int(sys.argv[1])
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
print(f"{seconds:.1f} s, {1000 * seconds / count:.0f} ms a case; 1,251 cases: "
      f"{seconds / count * 1251 / 60:.1f} minutes; peak memory {peak:.0f} MiB")
PYTHON
}

bench_data() {
  SEGMAMBA_CMAKE_ARGS="${SEGMAMBA_CMAKE_ARGS:-} -DSEGMAMBA_BUILD_BENCH=ON" \
    "$root/scripts/build.sh" bench_data bench_feed
  install_references data batchgeneratorsv2==0.3.6 "numpy<2.3"
  make_work_folder

  say "Augmentation of a patch, one core"
  name_processor
  "${one_core[@]}" "$build/tests/bench_data" "$@" >"$work/ours.json"
  "${one_core[@]}" "$venv/bin/python" "$root/scripts/bench_data.py" "$work" "$@"

  say "From files to batches"
  "$build/tests/bench_feed"
}

bench_train() {
  SEGMAMBA_CMAKE_ARGS="${SEGMAMBA_CMAKE_ARGS:-} -DSEGMAMBA_BUILD_BENCH=ON" \
    "$root/scripts/build.sh" bench_train
  say "A step of configs/cpu-smoke.yaml, alone and in a run"
  name_processor
  "$build/tests/bench_train" "$@"
}

bench_model() {
  "$root/scripts/build.sh"
  local training program="$build/bin/segmamba-model"
  [ $# -gt 0 ] || set -- --size 64
  name_processor
  for training in "" --training; do
    "$program" bench --config "$root/configs/upstream-code.yaml" "$@" $training
  done
  [ -n "${SEGMAMBA_PUBLISHED:-}" ] || return 0
  install_references model monai==1.6.1 einops "numpy<2.3"
  for training in "" --training; do
    "$venv/bin/python" "$root/scripts/bench_model.py" "$SEGMAMBA_PUBLISHED" "$program" "$@" $training
  done
}

bench_infer() {
  local count="${1:-8}" window=160x240x240 bin="$build/bin"
  "$root/scripts/build.sh"
  make_work_folder
  say "Generating $count cases of 240x240x155 and a tiny model"
  "$bin/segmamba-data" phantom --output "$work/cases" --cases "$count" --profile brats2023 --quiet
  "$bin/segmamba-train" --config "$root/configs/cpu-smoke.yaml" --output "$work/run" --quiet \
    --set data.root="$work/cases" "data.patch_size=[32, 32, 32]" "model.dims=[4, 4, 4, 4]" \
    "model.depths=[1, 1, 1, 1]" model.hidden_size=8 training.iterations=1 validation.every=0
  say "segmamba-infer on $count cases, a window of $window each, beside as many passes alone"
  name_processor
  "$root/.deps/venv/bin/python" "$root/scripts/bench_infer.py" "$bin" "$work" "$count" "$window"
}

bench_post() {
  SEGMAMBA_CMAKE_ARGS="${SEGMAMBA_CMAKE_ARGS:-} -DSEGMAMBA_BUILD_BENCH=ON" \
    "$root/scripts/build.sh" bench_post
  say "Post-processing, one core: case, voxels, milliseconds, MiB beside the label map"
  name_processor
  "${one_core[@]}" "$build/tests/bench_post"
}

bench_scan() {
  "$root/scripts/build.sh" segmamba_ops
  say "The scan and the Mamba layer at the four stages of a 128^3 patch, three directions"
  "$root/.deps/venv/bin/python" "$root/tests/bench/scan_bench.py" "$build/lib/libsegmamba_ops.so" "$@"
}

case "${1:-}" in
  scan) shift; bench_scan "$@" ;;
  eval) shift; bench_eval "$@" ;;
  model) shift; bench_model "$@" ;;
  infer) shift; bench_infer "$@" ;;
  post) bench_post ;;
  data) shift; bench_data "$@" ;;
  train) shift; bench_train "$@" ;;
  *) print_help >&2; exit 2 ;;
esac
