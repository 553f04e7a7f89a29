#!/usr/bin/env bash
# In place of segmamba-data, -train, -infer and -eval, by the name it is called by: notes the call in
# $STUBS/calls and leaves the files that table1.sh looks for. $STUBS/NAME.METHOD (of eval: NAME)
# holds the exit code of a call that is to fail half-way.
set -eu
name=$(basename "$0")
echo "$name $*" >>"$STUBS/calls"

output="" checkpoint="" resume=0 previous=""
for argument in "$@"; do
  case "$previous" in
    --output) output=$argument ;;
    --checkpoint) checkpoint=$argument ;;
  esac
  [ "$argument" != --resume ] || resume=1
  previous=$argument
done
# .../METHOD/run or .../METHOD/predictions
fails=$STUBS/$name.$(basename "$(dirname "$output")")

case "$name" in
  segmamba-data)
    if [ "$1" = phantom ]; then mkdir -p "$output"; exit; fi
    [ ! -e "$2/broken" ] || exit 1
    printf 'train:  # 1\n  - a\nvalidation: []\ntest:  # 2\n  - b c\n  - "4"\n' >"$output" ;;
  segmamba-train)
    if [ -d "$output" ] && [ $resume = 0 ]; then echo "$output is not empty" >&2; exit 1; fi
    mkdir -p "$output/checkpoints"
    [ ! -f "$fails" ] || exit "$(cat "$fails")"
    touch "$output"/checkpoints/{last,best}.pt ;;
  segmamba-infer)
    [ -f "$checkpoint" ] || exit 1
    mkdir -p "$output"
    touch "$output/b c.nii.gz"
    [ ! -f "$fails" ] || exit "$(cat "$fails")"
    touch "$output/4.nii.gz" ;;
  segmamba-eval)
    mkdir -p "$output"
    [ ! -f "$STUBS/$name" ] || exit "$(cat "$STUBS/$name")" ;;
esac
