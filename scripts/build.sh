#!/usr/bin/env bash
# Sets up and builds; the programs are in build/bin/ afterwards.
#
#   scripts/build.sh [TARGET ...]     default target: the programs; `all` adds the tests
#
# Options for CMake go into SEGMAMBA_CMAKE_ARGS, as in
#   SEGMAMBA_CMAKE_ARGS="-DSEGMAMBA_CUDA=OFF" scripts/build.sh
. "$(dirname "$0")/common.sh"

"$root/scripts/setup.sh"

targets=("$@")
[ ${#targets[@]} -eq 0 ] && targets=(programs)

cd "$root"
say "Building ${targets[*]} into build/ with $(build_jobs) jobs"
read -r -a cmake_args <<<"${SEGMAMBA_CMAKE_ARGS:-}"
if [ ! -f "$build/build.ninja" ] || [ ${#cmake_args[@]} -gt 0 ]; then
  log=$(mktemp)
  cmake --preset release ${cmake_args[@]+"${cmake_args[@]}"} >"$log" 2>&1 || {
    cat "$log" >&2
    die "CMake could not configure the build"
  }
  grep -E '^-- (LibTorch|CUDA kernels|ITK):' "$log" || true
  rm -f "$log"
fi
cmake --build "$build" --parallel "$(build_jobs)" --target "${targets[@]}"
