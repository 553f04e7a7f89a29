#!/usr/bin/env bash
# Checks the layout (clang-format) and, with --tidy, the code (clang-tidy; minutes).
#
#   scripts/lint.sh [--fix] [--tidy [FILE ...]]
. "$(dirname "$0")/common.sh"
cd "$root"

fix=false tidy=false files=()
for argument in "$@"; do
  case "$argument" in
    --fix) fix=true ;;
    --tidy) tidy=true ;;
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

if $tidy; then
  command -v clang-tidy >/dev/null || die "clang-tidy is missing: apt-get install clang-tidy"
  # GCC's precompiled headers mean nothing to clang: a copy of the database without them.
  database=$(mktemp -d)
  trap 'rm -rf "$database"' EXIT
  sed -E 's/-include [^ ]*cmake_pch\.hxx//g; s/-Winvalid-pch//g; s/-fpch-preprocess//g; s/-Wno-restrict//g' \
    "$build/compile_commands.json" >"$database/compile_commands.json"
  [ ${#files[@]} -eq 0 ] && mapfile -t files < <(
    git ls-files 'src/*.cpp' 'apps/*.cpp' 'kernels/*.cpp')
  printf '%s\n' "${files[@]}" | xargs -P "$(build_jobs)" -n 1 clang-tidy --quiet -p "$database"
  echo "clang-tidy: ${#files[@]} files are clean"
fi
