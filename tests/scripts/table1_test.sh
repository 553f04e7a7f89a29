#!/usr/bin/env bash
# scripts/table1.sh with programs that only note how they are called.
#
#   table1_test.sh WORK
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
rm -rf "$1"
mkdir -p "$1/bin" "$1/data"
work=$(cd "$1" && pwd)
for program in data train infer eval; do
  ln -s "$here/table1_programs.sh" "$work/bin/segmamba-$program"
done
export SEGMAMBA_BIN=$work/bin STUBS=$work/stubs
cd "$work"

fail() { printf 'table1_test: %s\n' "$*" >&2; sed 's/^/  | /' "$work/said" >&2; exit 1; }
# A test begins: no files of those before.
begin() { test=$1; rm -rf "$STUBS" "$work/out"; mkdir -p "$STUBS"; }
# table CODE ARGUMENT ...: runs the script, which has to end so.
table() {
  local code=0
  : >"$STUBS/calls"
  "$root/scripts/table1.sh" "${@:2}" >"$work/said" 2>&1 || code=$?
  [ $code = "$1" ] || fail "$test: exit code $code, not $1"
}
says() { grep -qF -e "$1" "$work/said" || fail "$test: does not say '$1'"; }
# refused MESSAGE ARGUMENT ...: one line and no call.
refused() {
  table 1 "${@:2}"
  [ "$(cat "$work/said")" = "table1.sh: $1" ] || fail "$test: does not say '$1' alone"
  [ ! -s "$STUBS/calls" ] || fail "$test: called $(cat "$STUBS/calls")"
}
# The calls of a program, and the methods, as "SegResNet UNETR", that were scored.
calls() { grep "^segmamba-$1 " "$STUBS/calls" || true; }
count() { calls "$1" | wc -l; }
scored() { calls eval | grep -oE -e '--prediction [^ =]*' | cut -d' ' -f2 | xargs; }
is() { [ "$2" = "$3" ] || fail "$test: $1 is '$2', not '$3'"; }

begin "every method"
table 0 data --output out --gpus 4 -- --set "a=b c"
is "trained" "$(count train)" 15
is "segmented" "$(count infer)" 15
is "first of the paper's" "$(scored)" \
  "$(tail -n +2 "$root/configs/table1/paper.csv" | cut -d, -f1 | xargs) TransBTS nnU-Net$(
    ) nnU-Net-ResEnc U-Mamba-Bot U-Mamba-Enc Vim-3D VMamba-3D"
is "training" "$(calls train | head -1)" "segmamba-train --config configs/table1/segresnet.yaml$(
  ) --set data.root=$work/data --set data.split=$work/out/split.yaml$(
  ) --output $work/out/segresnet/run --gpus 4 --resume --set a=b c"
is "scoring" "$(calls eval | sed 's/.* --reference/--reference/')" \
  "--reference $work/data --split $work/out/split.yaml --part test$(
  ) --published configs/table1/paper.csv --output $work/out/evaluation --overwrite"

begin "smoke"
table 0 --smoke --output out
is "trained" "$(calls train | grep -c ' configs/table1/smoke/.* data.root='"$work/out/data ")" 15
is "generated" "$(calls data | head -1)" \
  "segmamba-data phantom --output $work/out/data --cases 20 --size 64 --seed 1"
table 0 --smoke --output out
is "generated again" "$(count data)" 0

begin "a list of cases"
touch data/cases.csv data/dataset.json
table 0 data/cases.csv --output out --methods unetr
is "scoring" "$(calls eval | grep -oE -e '--reference [^ ]*')" "--reference $work/data/cases.csv"
begin "a description of the data set"
table 0 data/dataset.json --output out --methods unetr
is "scoring" "$(calls eval | grep -oE -e '--reference [^ ]*')" "--reference $work/data"

begin "stopped by a signal"
echo 143 >"$STUBS/segmamba-train.unetr"
table 143 data --output out --methods unetr,vim
is "trained" "$(count train)" 1
is "scored" "$(scored)" ""
rm "$STUBS/segmamba-train.unetr"
table 0 data --output out --methods unetr,vim
is "split" "$(count data)" 0
is "scored" "$(scored)" "UNETR Vim-3D"

begin "killed before the first checkpoint"
mkdir -p out/unetr/run/checkpoints out/unetr/predictions
touch out/unetr/run/train.log out/unetr/predictions/{"b c",4}.nii.gz
table 0 data --output out --methods unetr
is "files" "$(find out/unetr -name '*.pt' | wc -l)" 2
echo 1 >"$STUBS/segmamba-infer.unetr"
rm -r out/unetr/run/checkpoints
table 1 data --output out --methods unetr
[ ! -f out/unetr/predictions/4.nii.gz ] || fail "$test: predictions of the run before are left"

begin "methods that fail"
echo 1 >"$STUBS/segmamba-train.unetr"
echo 3 >"$STUBS/segmamba-infer.vim"
table 1 data --output out --methods segresnet,unetr,vim,vmamba
is "scored" "$(scored)" "SegResNet VMamba-3D"
says "  UNETR: training (exit code 1)"
says "  Vim-3D: segmenting (exit code 3)"
says "Vim-3D is left out of the table: not all test cases are segmented"
rm "$STUBS"/segmamba-*
table 0 data --output out --methods unetr
is "scored" "$(scored)" "SegResNet UNETR VMamba-3D"
begin "no method succeeds"
echo 1 >"$STUBS/segmamba-train.unetr"
table 1 data --output out --methods unetr
is "scorings" "$(count eval)" 0

begin "scoring"
echo 3 >"$STUBS/segmamba-eval"
table 3 data --output out --methods unetr
says "The table: $work/out/evaluation/table.md"
says "$work/out/evaluation/problems.csv"
echo 1 >"$STUBS/segmamba-eval"
table 1 data --output out --methods unetr
says "table1.sh: scoring failed (exit code 1); see above"

begin "names of methods"
all=segresnet,uxnet,mednext,unetr,swin_unetr,swin_unetr_v2,nnformer,segmamba,transbts,nnunet$(
  ),nnunet_resenc,umamba_bot,umamba_enc,vim,vmamba
for name in recipe smoke/unetr UNETR 'title[0]'; do
  refused "--methods: '$name' is none of $all" data --output out --methods "unetr,$name"
done
refused "--methods: '' is none of $all" data --output out --methods unetr,,vim
refused "--methods names none" data --output out --methods " "
table 0 data --output out --methods " unetr , vim"
is "scored" "$(scored)" "UNETR Vim-3D"

begin "other inputs"
table 0 data --output out --methods unetr -- --set training.seed=2
table 0 ../"$(basename "$work")"/data --output out --methods vim --gpus 2 -- \
  --set training.workers=8 --set training.seed=2 --threads 2 --device cpu
mkdir -p other
refused "$work/out holds results of other inputs (was 'data set: $work/data', is 'data set:$(
  ) $work/other'); give another --output, or the same inputs as before" \
  other --output out -- --set training.seed=2
refused "$work/out holds results of other inputs (was 'options of segmamba-train: --set$(
  ) training.seed=2', is 'options of segmamba-train:'); give another --output, or the same inputs$(
  ) as before" data --output out
refused "$work/out holds results of other inputs (was 'data set: $work/data', is 'data set:$(
  ) generated'); give another --output, or the same inputs as before" --smoke --output out
begin "inputs that were refused"
touch other/broken
table 1 other --output out --methods unetr
table 0 data --output out --methods unetr

begin "command lines"
for arguments in "--help" "-h" "--smoke --help" "data -h"; do
  # shellcheck disable=SC2086
  table 0 $arguments
  says "SEGMAMBA_BIN=DIR"
  is "calls" "$(wc -l <"$STUBS/calls")" 0
done
refused "give the data set, or --smoke; see --help"
refused "there is no option --fast; see --help" data --fast
refused "more is one argument too many; see --help" data more
refused "--output needs a value" data --output
refused "--smoke generates its own data; leave out data" --smoke data
refused "nowhere does not exist" nowhere
SEGMAMBA_BIN=none refused "SEGMAMBA_BIN: there is no program $work/none/segmamba-train" data
echo "table1_test: passed"
