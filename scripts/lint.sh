#!/usr/bin/env bash
# Checks the layout (clang-format) and, with --tidy and --cppcheck, the code (clang-tidy takes 30
# minutes on two cores and a build's compile_commands.json, cppcheck seconds; what they may not say
# is in .clang-tidy and .cppcheck-suppressions).
#
#   scripts/lint.sh [--fix] [--tidy] [--cppcheck] [FILE ...]
. "$(dirname "$0")/common.sh"
cd "$root"

fix=false tidy=false cppcheck=false files=()
for argument in "$@"; do
  case "$argument" in
    --fix) fix=true ;;
    --tidy) tidy=true ;;
    --cppcheck) cppcheck=true ;;
    -*) die "unknown option $argument" ;;
    *) files+=("$argument") ;;
  esac
done
command -v clang-format >/dev/null || die "clang-format is missing: apt-get install clang-format"

mapfile -t all < <(git ls-files '*.h' '*.cpp' '*.cu' '*.cuh')
if $fix; then
  clang-format -i "${all[@]}"
else
  clang-format --dry-run -Werror "${all[@]}"
  echo "clang-format: ${#all[@]} files are clean"
fi

[ ${#files[@]} -eq 0 ] && mapfile -t files < <(git ls-files 'src/*.cpp' 'apps/*.cpp' 'kernels/*.cpp')

if $cppcheck; then
  command -v cppcheck >/dev/null || die "cppcheck is missing: apt-get install cppcheck"
  # cppcheck 2.10 crashes on this one; clang-tidy reads it.
  too_much=src/nn/upstream_config.cpp
  mapfile -t readable < <(printf '%s\n' "${files[@]}" | grep -vxF "$too_much")
  printf '%s\n' "${readable[@]}" |
    xargs -P "$(build_jobs)" -n 20 cppcheck --quiet --std=c++20 --language=c++ --error-exitcode=1 \
      --enable=warning,performance,portability --suppressions-list=.cppcheck-suppressions \
      '-DTORCH_LIBRARY_FRAGMENT(name, library)=static void fragment(torch::Library& library)' \
      '-DTORCH_LIBRARY_IMPL(name, key, library)=static void of_##key(torch::Library& library)' \
      -I include -I kernels -I src
  echo "cppcheck: ${#readable[@]} files are clean"
fi

if $tidy; then
  command -v clang-tidy >/dev/null || die "clang-tidy is missing: apt-get install clang-tidy"
  # GCC's precompiled headers mean nothing to clang: a copy of the database without them.
  database=$(mktemp -d)
  trap 'rm -rf "$database"' EXIT
  sed -E 's/-include [^ ]*cmake_pch\.hxx//g; s/-Winvalid-pch//g; s/-fpch-preprocess//g; s/-Wno-restrict//g' \
    "$build/compile_commands.json" >"$database/compile_commands.json"
  printf '%s\n' "${files[@]}" | xargs -P "$(build_jobs)" -n 1 clang-tidy --quiet -p "$database"
  echo "clang-tidy: ${#files[@]} files are clean"
fi
