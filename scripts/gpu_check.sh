#!/usr/bin/env bash
# Builds with CUDA, compares the GPU's operators with the CPU's and times the scan.
#
#   scripts/gpu_check.sh
#
# Needs an NVIDIA GPU and nvcc; says so, and ends with 0, where there is no GPU.
. "$(dirname "$0")/common.sh"

if ! command -v nvidia-smi >/dev/null || ! nvidia-smi --list-gpus 2>/dev/null | grep -q '^GPU'; then
  say "No GPU on this machine: nothing was checked"
  exit 0
fi
command -v nvcc >/dev/null || die "There is a GPU but no nvcc on the PATH: install the CUDA toolkit"

nvidia-smi --query-gpu=name,compute_cap,driver_version --format=csv,noheader
architecture=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -1 | tr -d .)
SEGMAMBA_CMAKE_ARGS="-DSEGMAMBA_CUDA=ON -DCMAKE_CUDA_ARCHITECTURES=$architecture" \
  "$root/scripts/build.sh" segmamba_ops test_ops

say "Comparing the GPU with the CPU"
"$build/tests/test_ops" --gtest_filter='Cuda.*'

say "Timing the scan"
"$root/.deps/venv/bin/python" "$root/tests/ops/gpu_bench.py" "$build/lib/libsegmamba_ops.so"
say "The GPU check passed"
