#!/usr/bin/env bash
# Sets up, builds everything and runs all tests; the last line is `N passed, N failed`.
#
#   scripts/test.sh [CTEST OPTION ...]     e.g. scripts/test.sh -R io
#
# CUDA tests skip themselves, and say so, where there is no GPU.
. "$(dirname "$0")/common.sh"

"$root/scripts/build.sh" all

results="$build/test-results"
rm -rf "$results"
mkdir -p "$results"

say "Running the tests"
status=0
GTEST_OUTPUT="json:$results/" GTEST_BRIEF=1 \
  ctest --test-dir "$build" --output-on-failure --output-junit "$results/ctest.xml" "$@" || status=$?

"$root/.deps/venv/bin/python" "$root/scripts/count_tests.py" "$results" || status=1
exit "$status"
