#!/usr/bin/env bash
# Packs what a GPU machine needs into one folder, and runs it where there is a GPU.
#
#   scripts/gpu_check.sh [--dry] [FOLDER]   default: build/gpu-check; --dry: runs here what the CPU
#                                           can do of it, to try the scripts
#
# The folder, and FOLDER.tar.gz of it, hold programs, CUDA tests, benchmarks and the shared libraries
# they need besides LibTorch and CUDA. On the machine with the GPU, which needs a Python with the torch
# that this was built against, `FOLDER/run.sh` runs all of it and writes FOLDER/results.json.
# Environment:
#   SEGMAMBA_CUDA_ARCHITECTURES   what to compile for; default 90 (H100, H200)
#   GPU_CHECK_PYTHON              a folder of Python packages to take along, built for that torch:
#                                 mamba_ssm's extension selective_scan_cuda, to be timed side by
#                                 side, and what the published model imports
#   SEGMAMBA_PUBLISHED            checkout of github.com/ge-xing/SegMamba, whose network is timed
#                                 beside ours; needs mamba_ssm and monai in those packages
. "$(dirname "$0")/common.sh"

dry=()
if [ "${1:-}" = --dry ]; then
  dry=(--dry)
  shift
fi
folder="${1:-$build/gpu-check}"
command -v nvcc >/dev/null || [ -x /usr/local/cuda/bin/nvcc ] ||
  die "there is no nvcc: install the CUDA toolkit, or run this where there is one"

programs=(segmamba-train segmamba-infer segmamba-eval segmamba-data segmamba-model)
SEGMAMBA_CMAKE_ARGS="-DSEGMAMBA_CUDA=ON -DCMAKE_CUDA_ARCHITECTURES=${SEGMAMBA_CUDA_ARCHITECTURES:-90}" \
  "$root/scripts/build.sh" "${programs[@]}" segmamba_ops test_ops test_kernels test_nn test_engine

say "Packing $folder"
rm -rf "$folder"
mkdir -p "$folder/bin" "$folder/lib" "$folder/python"
for program in "${programs[@]}"; do cp "$build/bin/$program" "$folder/bin/"; done
cp "$build"/tests/test_{ops,kernels,nn,engine} "$folder/bin/"
cp "$build/lib/libsegmamba_ops.so" "$folder/lib/"
# All they load besides LibTorch, CUDA and the C library.
ldd "$folder"/bin/* "$folder"/lib/*.so | awk '$2 == "=>" && $3 ~ /^\// {print $3}' | sort -u |
  grep -Ev '/(torch|nvidia|cuda[^/]*)/|/(libc|libm|libdl|librt|libpthread|libutil|libsegmamba_ops)\.so' |
  xargs -r cp -Lt "$folder/lib/"
strip --strip-unneeded "$folder"/bin/* "$folder"/lib/* 2>/dev/null || true
cp "$root"/configs/{demo,upstream-code}.yaml "$root/tests/bench/scan_bench.py" \
  "$root"/scripts/{gpu_run.sh,bench_model.py,inference_check.py} "$folder/"
mv "$folder/gpu_run.sh" "$folder/run.sh"
[ -z "${GPU_CHECK_PYTHON:-}" ] || cp -r "$GPU_CHECK_PYTHON/." "$folder/python/"
if [ -n "${SEGMAMBA_PUBLISHED:-}" ]; then
  mkdir -p "$folder/published/mamba"
  cp -r "$SEGMAMBA_PUBLISHED/model_segmamba" "$folder/published/"
  cp -r "$SEGMAMBA_PUBLISHED/mamba/mamba_ssm" "$folder/published/mamba/"
fi
git -C "$root" describe --always --dirty >"$folder/version" 2>/dev/null || echo unknown >"$folder/version"
tar -C "$(dirname "$folder")" -czf "$folder.tar.gz" "$(basename "$folder")"
say "$folder: $(du -sm "$folder" | cut -f1) MB; $folder.tar.gz: $(du -sm "$folder.tar.gz" | cut -f1) MB"

if [ ${#dry[@]} -gt 0 ] ||
  { command -v nvidia-smi >/dev/null && nvidia-smi --list-gpus 2>/dev/null | grep -q '^GPU'; }; then
  PATH="$root/.deps/venv/bin:$PATH" "$folder/run.sh" ${dry[@]+"${dry[@]}"}
else
  echo "No GPU on this machine: nothing was run. On one with a GPU: $folder/run.sh"
fi
