#!/usr/bin/env bash
# Builds and runs the tests under a tool that watches memory or threads; 0 where it has nothing to
# say. What a tool may not report, and why, is in tests/sanitizers/.
#
#   scripts/sanitize.sh address [CTEST OPTION ...]    AddressSanitizer, LeakSanitizer and
#                                                     UndefinedBehaviorSanitizer: every test
#   scripts/sanitize.sh thread [CTEST OPTION ...]     ThreadSanitizer: every room but nn and the programs
#   scripts/sanitize.sh valgrind [TEST ...]           memcheck: the tests of the rooms without
#                                                     LibTorch, e.g. test_core; hours for all
#
# CPU only. The first two take the options of ctest, as in `scripts/sanitize.sh address -R io`.
. "$(dirname "$0")/common.sh"
cd "$root"

with_preset() {
  local preset=$1
  shift
  "$root/scripts/setup.sh"
  say "Building for $preset"
  cmake --preset "$preset" >/dev/null
  cmake --build --preset "$preset"
  say "Running the tests"
  GTEST_BRIEF=1 ctest --preset "$preset" "$@"
}

with_valgrind() {
  local tests=("$@") failed=()
  [ ${#tests[@]} -eq 0 ] &&
    tests=(test_core test_io test_metrics test_data test_post test_eval test_kernels)
  "$root/scripts/setup.sh" valgrind
  "$root/scripts/build.sh" "${tests[@]}"
  # A test that limits its address space limits valgrind's, too, which also tells of a read into no
  # memory that a test has the system refuse.
  local left_out=(ParallelFor.GoesOnWhereTheSystemHasNoMoreThreads
                  MappedFile.NoRoomIsNoFaultOfTheFile CacheTest.ShortMemoryCostsNoCase
                  RandomAccessFile.ARefusedReadIsToldFromTheEnd)
  GTEST_FILTER="-$(IFS=:; echo "${left_out[*]}")"
  export GTEST_FILTER
  for test in "${tests[@]}"; do
    say "$test under valgrind"
    GTEST_BRIEF=1 valgrind --quiet --error-exitcode=9 --leak-check=full \
      --errors-for-leak-kinds=definite,indirect --show-leak-kinds=definite,indirect \
      --suppressions=tests/sanitizers/valgrind.supp "$build/tests/$test" || failed+=("$test")
  done
  [ ${#failed[@]} -eq 0 ] || die "not clean: ${failed[*]}"
  say "valgrind: ${#tests[@]} programs are clean"
}

kind=${1:-}
shift || true
case "$kind" in
  address) with_preset asan-ubsan "$@" ;;
  thread) with_preset tsan "$@" ;;
  valgrind) with_valgrind "$@" ;;
  *) die "say address, thread or valgrind (see --help)" ;;
esac
