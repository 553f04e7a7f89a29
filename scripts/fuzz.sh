#!/usr/bin/env bash
# Feeds every reader of files with damaged ones, by libFuzzer with AddressSanitizer and
# UndefinedBehaviorSanitizer, and tells what broke.
#
#   scripts/fuzz.sh HOURS [READER ...]   all readers, or these, for HOURS (0.5 is half an hour) in all
#   scripts/fuzz.sh --merge [READER ...] adds the 24 inputs a reader that reach the most code which no
#                                        input in tests/data/fuzz does; test_fuzz replays those
#   scripts/fuzz.sh --list               the names of the readers
#
# Each reader gets the same share of the time; as many run at once as there are cores. Installs clang
# and its runtimes through apt where it may be used, and builds into build/fuzz/. A finding is: a
# report of a sanitizer, an exception other than segmamba::Error, a message that is not one printable
# line, more than 100 MB of memory, or more than ten seconds. Inputs that reach something new are kept
# in build/fuzz/corpus and taken up by the next run; findings are in build/fuzz/findings. Exits with 1
# where there are any. Environment:
#   JOBS                  readers at once, in place of the number of cores
#   SEGMAMBA_FUZZ_SEEDS   a folder with more files to start from, in folders named as the readers
. "$(dirname "$0")/common.sh"

fuzz="$build/fuzz" corpus="$build/fuzz/corpus" findings="$build/fuzz/findings" logs="$build/fuzz/logs"
committed="$root/tests/data/fuzz"
export LSAN_OPTIONS="suppressions=$root/tests/sanitizers/lsan.supp:print_suppressions=0"
longest_input=65536
most_added=24  # by --merge

build_fuzzers() {
  "$root/scripts/setup.sh" clang llvm libclang-rt-14-dev
  cd "$root"
  say "Building the fuzzers into build/fuzz/ with $(build_jobs) jobs"
  local log
  log=$(mktemp)
  cmake --preset fuzz >"$log" 2>&1 || {
    cat "$log" >&2
    die "CMake could not configure the build"
  }
  rm -f "$log"
  cmake --build --preset fuzz --parallel "$(build_jobs)"
}

# Lines of READER DICTIONARY PROGRAM.
list_readers() {
  local program
  for program in "$fuzz"/bin/fuzz_files "$fuzz"/bin/fuzz_weights; do
    "$program" | sed "s|\$| $program|"
  done
}

# The lines of the readers that were asked for.
chosen_readers() {
  local all reader
  all=$(list_readers)
  [ $# -gt 0 ] || { echo "$all"; return; }
  for reader in "$@"; do
    grep "^$reader " <<<"$all" || die "there is no reader '$reader'; known: $(cut -d' ' -f1 <<<"$all" | xargs)"
  done
}

# The number after `NAME` in the last line that has one, over all runs of a log.
last_number() { grep -o "$1 *[0-9]*" "$2" | tail -1 | grep -o '[0-9]*$' || echo 0; }
sum_of() { awk -v name="$1" '$1 == name {sum += $2} END {printf "%d", sum}' "$2"; }

# Runs one reader for SECONDS; libFuzzer ends with a finding, and is started again.
run_reader() {
  local reader="$1" dictionary="$2" program="$3" seconds="$4"
  local end=$(($(date +%s) + seconds)) log="$logs/$reader.log" folders=("$corpus/$reader") left
  local before
  mkdir -p "$corpus/$reader" "$findings"
  before=$(find "$corpus/$reader" -type f | wc -l)
  [ ! -d "$committed/$reader" ] || folders+=("$committed/$reader")
  [ ! -d "${SEGMAMBA_FUZZ_SEEDS:-}/$reader" ] || folders+=("$SEGMAMBA_FUZZ_SEEDS/$reader")
  : >"$log"
  while left=$((end - $(date +%s))) && [ "$left" -gt 0 ]; do
    SEGMAMBA_FUZZ_READER="$reader" "$program" -max_total_time="$left" -max_len="$longest_input" \
      -timeout=10 -malloc_limit_mb=100 -rss_limit_mb=4096 -print_final_stats=1 -verbosity=1 \
      -dict="$root/tests/fuzz/dictionaries/$dictionary.dict" \
      -artifact_prefix="$findings/$reader-" "${folders[@]}" >>"$log" 2>&1 </dev/null && continue
    # A finding ends it, too.
    tail -20 "$log" | grep -q 'Test unit written to' && continue
    tail -5 "$log" >&2
    die "the fuzzer of $reader failed without a finding; its log is $log"
  done
  printf '%-20s %12s %10s %10s %9s\n' "$reader" \
    "$(sum_of 'stat::number_of_executed_units:' "$log")" \
    "$(($(find "$corpus/$reader" -type f | wc -l) - before))" "$(last_number 'cov:' "$log")" \
    "$(find "$findings" -name "$reader-*" | wc -l)" | tee "$logs/$reader.row"
}

# libFuzzer copies one after the other what reaches the most that none before did: the first ones
# reach nearly all of it.
merge_reader() {
  local reader="$1" program="$3" folder="$committed/$1" start
  start=$(mktemp)
  mkdir -p "$folder" "$corpus/$reader"
  SEGMAMBA_FUZZ_READER="$reader" "$program" -set_cover_merge=1 -use_counters=0 -max_len=4096 \
    -timeout=10 "$folder" "$corpus/$reader" >"$logs/merge-$reader.log" 2>&1 </dev/null ||
    die "merging $reader failed; see $logs/merge-$reader.log"
  find "$folder" -type f -newer "$start" -printf '%T@ %p\0' | sort -zn | cut -zd' ' -f2- |
    tail -zn "+$((most_added + 1))" | xargs -0r rm
  rm "$start"
  echo "$reader: $(find "$folder" -type f | wc -l) inputs, $(du -sb "$folder" | cut -f1) bytes"
}

hours="${1:-}"
[ $# -gt 0 ] || { print_help >&2; exit 2; }
shift
[ "$hours" = --merge ] || [ "$hours" = --list ] || [[ "$hours" =~ ^[0-9]*\.?[0-9]+$ ]] ||
  die "HOURS must be a number, got '$hours'"
build_fuzzers
if [ "$hours" = --list ]; then
  list_readers | cut -d' ' -f1
  exit
fi
readers=$(chosen_readers "$@")
mkdir -p "$corpus" "$findings" "$logs"
TMPDIR=$(mktemp -d "$([ -d /dev/shm ] && echo /dev/shm || echo /tmp)/segmamba-fuzz-XXXXXX")
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT

if [ "$hours" = --merge ]; then
  while read -r reader dictionary program; do
    merge_reader "$reader" "$dictionary" "$program"
  done <<<"$readers"
  exit
fi

count=$(wc -l <<<"$readers") jobs="${JOBS:-$(nproc)}"
[ "$jobs" -le "$count" ] || jobs=$count
seconds=$(awk -v hours="$hours" -v jobs="$jobs" -v count="$count" \
  'BEGIN {s = int(hours * 3600 * jobs / count); print s < 1 ? 1 : s}')
rm -f "$logs"/*.row
say "$count readers, $seconds seconds each, $jobs at once"
printf '%-20s %12s %10s %10s %9s\n' reader inputs "new files" coverage findings
while read -r reader dictionary program; do
  while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n || true; done
  run_reader "$reader" "$dictionary" "$program" "$seconds" &
done <<<"$readers"
wait

while read -r reader _; do
  [ -f "$logs/$reader.row" ] || die "$reader did not run to the end"
done <<<"$readers"
total=$(cat "$logs"/*.row | awk '{inputs += $2} END {print inputs}')
found=$(cat "$logs"/*.row | awk '{findings += $5} END {print findings + 0}')
say "$total inputs, $found findings"
[ "$found" -eq 0 ] && exit
echo "The inputs are in $findings, what they did is in $logs. To see one again:"
first=$(find "$findings" -type f | sort | head -1)
reader=$(basename "$first" | sed -E 's/-(crash|leak|timeout|oom|slow-unit)-.*//')
echo "  SEGMAMBA_FUZZ_READER=$reader $(grep "^$reader " <<<"$readers" | cut -d' ' -f3) $first"
exit 1
