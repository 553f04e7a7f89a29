#!/usr/bin/env bash
# Table 1 of the paper: trains every method on one data set under one recipe, segments the test
# cases and scores them, in the table's layout and beside the paper's own numbers.
#
#   scripts/table1.sh DATA [options] [-- options of segmamba-train]
#   scripts/table1.sh --smoke [options] [-- options of segmamba-train]
#
#   DATA              cases as segmamba-data check takes them: BraTS2023's training folder, a CSV
#                     list of cases, ...
#   --smoke           small networks on generated cases: less than an hour on two cores
#   --output DIR      holds a run and predictions a method; default table1, or table1-smoke, of
#                     this repository
#   --methods A,B     names of configs/table1/*.yaml, default all of them
#   --gpus N          of this machine, default 1 (or the CPU where there is none)
#   -- ...            what follows goes to segmamba-train, for every method: -- --set training.seed=2
#
# SEGMAMBA_BIN=DIR takes the programs in DIR instead of building them.
#
# Run again, it goes on where it stopped. On one GPU the paper's recipe takes days a method:
# --methods shares them among machines, and a last run with all of them scores what is there. A
# method that fails does not stop the others.
# Exit code: 0; 1 error, or methods failed (listed at the end); 3 scored, but segmamba-eval found
# problems in the cases; 130, 138, 143 stopped by a signal.
. "$(dirname "$0")/common.sh"

data="" output="" methods="" gpus=1 smoke=0
while [ $# -gt 0 ]; do
  case "$1" in
    -h | --help) print_help; exit ;;
    --smoke) smoke=1 ;;
    --output | --methods | --gpus)
      [ -n "${2:-}" ] || die "$1 needs a value"
      declare "${1#--}=$2"
      shift ;;
    --) shift; break ;;
    -*) die "there is no option $1; see --help" ;;
    *) [ -z "$data" ] || die "$1 is one argument too many; see --help"; data=$1 ;;
  esac
  shift
done
configs=configs/table1
[ "$smoke" = 1 ] && configs=configs/table1/smoke
if [ "$smoke" = 0 ] && [ -z "$data" ]; then die "give the data set, or --smoke; see --help"; fi
if [ "$smoke" = 1 ] && [ -n "$data" ]; then die "--smoke generates its own data; leave out $data"; fi
[ -z "$data" ] || [ -e "$data" ] || die "$data does not exist"

# In the order of the paper's table, then those that it has not; the name of its row.
order=(segresnet uxnet mednext unetr swin_unetr swin_unetr_v2 nnformer segmamba
       transbts nnunet nnunet_resenc umamba_bot umamba_enc vim vmamba)
declare -A title=(
  [segresnet]=SegResNet [uxnet]=UX-Net [mednext]=MedNeXt [unetr]=UNETR [swin_unetr]=SwinUNETR
  [swin_unetr_v2]=SwinUNETR-V2 [nnformer]=nnFormer [segmamba]=SegMamba [transbts]=TransBTS
  [nnunet]=nnU-Net [nnunet_resenc]=nnU-Net-ResEnc [umamba_bot]=U-Mamba-Bot
  [umamba_enc]=U-Mamba-Enc [vim]=Vim-3D [vmamba]=VMamba-3D)
chosen=("${order[@]}")
[ -z "$methods" ] || IFS=, read -r -a chosen <<<"${methods//[[:space:]]/}"
[ ${#chosen[@]} -gt 0 ] || die "--methods names none"
for method in "${chosen[@]}"; do
  # An empty subscript would be an error of the shell.
  [ -n "${title[${method:- }]:-}" ] ||
    die "--methods: '$method' is none of $(IFS=,; echo "${order[*]}")"
done

# Paths are the caller's; those of the configs are the repository's.
[ -z "$data" ] || data=$(realpath "$data")
# Which file describes the data set is for training; scores need its folder.
[ "${data##*/}" != dataset.json ] || data=$(dirname "$data")
output=$(realpath -m "${output:-$root/table1$([ "$smoke" = 0 ] || echo -smoke)}")
bin=$(realpath -m "${SEGMAMBA_BIN:-$build/bin}")
[ -z "${SEGMAMBA_BIN:-}" ] || [ -x "$bin/segmamba-train" ] ||
  die "SEGMAMBA_BIN: there is no program $bin/segmamba-train"
cd "$root"

started=$SECONDS
step() { say "[$((SECONDS - started)) s] $*"; }

# Those of segmamba-train that decide the weights: not what only decides where and how fast.
deciding() {
  while [ $# -gt 0 ]; do
    case "$1 ${2:-}" in
      "--threads "* | "--device "* | "--set training.workers="* | "--set data.cache="* | \
        "--set data.memory_gb="*) shift ;;
      *) printf ' %q' "$1" ;;
    esac
    shift
  done
}
# What all runs in one folder have in common, or the table would compare what is not comparable.
facts=("data set: ${data:-generated}" "configs: $configs"
       "options of segmamba-train:$(deciding "$@")")
record=$output/table1.txt
if [ -f "$record" ]; then
  mapfile -t before <"$record"
  for i in "${!facts[@]}"; do
    [ "${facts[i]}" = "${before[i]:-}" ] ||
      die "$output holds results of other inputs (was '${before[i]:-}', is '${facts[i]}'); give" \
        "another --output, or the same inputs as before"
  done
fi
[ -n "${SEGMAMBA_BIN:-}" ] || scripts/build.sh
mkdir -p "$output"
printf '%s\n' "${facts[@]}" >"$record"

if [ "$smoke" = 1 ]; then
  data=$output/data
  if [ ! -f "$data/.complete" ]; then
    step "Generate 20 cases like those of BraTS2023"
    rm -rf "$data"
    "$bin/segmamba-data" phantom --output "$data" --cases 20 --size 64 --seed 1
    touch "$data/.complete"
  fi
fi
# 70 % to train, 10 % to choose the best checkpoint, 20 % to test, as in the paper's section 3.4.
split=$output/split.yaml
[ -f "$split" ] || "$bin/segmamba-data" split "$data" --seed 1 --output "$split" || {
  rm "$record"  # nothing was begun
  exit 1
}
mapfile -t test_cases < <(sed -nE "/^test:/,/^[a-z]/s/^ *- *[\"']?([^\"']*)[\"']?.*/\1/p" "$split")
[ ${#test_cases[@]} -gt 0 ] || die "$split lists no test cases under 'test:', one a line"

failed=()
# Runs a step of a method. A failure is for the end, but who stopped this wants all to stop.
try() {
  local status=0
  "${@:2}" || status=$?
  case $status in
    0) return 0 ;;
    129 | 130 | 138 | 143) say "Stopped; run again to go on."; exit "$status" ;;
  esac
  failed+=("$1 (exit code $status)")
  return 1
}

for method in "${chosen[@]}"; do
  run=$output/$method/run predictions=$output/$method/predictions
  # Predictions of an earlier run that is no longer there.
  compgen -G "$run/checkpoints/*.pt" >/dev/null || rm -rf "$predictions"
  step "${title[$method]}: train"
  # --resume also starts a run, or one anew that was killed before its first checkpoint.
  try "${title[$method]}: training" "$bin/segmamba-train" --config "$configs/$method.yaml" \
    --set "data.root=$data" --set "data.split=$split" --output "$run" --gpus "$gpus" --resume \
    "$@" || continue
  step "${title[$method]}: segment the test cases"
  try "${title[$method]}: segmenting" "$bin/segmamba-infer" \
    --checkpoint "$run/checkpoints/best.pt" --input "$data" --split "$split" --part test \
    --output "$predictions" --skip-existing || continue
done

has_all_cases() {
  local name
  for name in "${test_cases[@]}"; do [ -f "$1/$name.nii.gz" ] || return 1; done
}
complete=()
for method in "${order[@]}"; do
  folder=$output/$method/predictions
  if has_all_cases "$folder"; then
    complete+=(--prediction "${title[$method]}=$folder")
  elif [ -d "$output/$method" ]; then
    say "${title[$method]} is left out of the table: not all test cases are segmented"
  fi
done
status=0
if [ ${#complete[@]} -gt 0 ]; then
  step "Score"
  "$bin/segmamba-eval" "${complete[@]}" --reference "$data" --split "$split" --part test \
    --published configs/table1/paper.csv --output "$output/evaluation" --overwrite || status=$?
  # 3: scored, but with problems, which it has listed.
  [ $status -eq 0 ] || [ $status -eq 3 ] || die "scoring failed (exit code $status); see above"
  say "Done in $((SECONDS - started)) s. The table: $output/evaluation/table.md, table.tex, report.html."
  [ $status -eq 0 ] || say "Some cases have problems: $output/evaluation/problems.csv"
fi
if [ ${#failed[@]} -gt 0 ]; then
  say "Failed, see above why; run again to try again:"
  printf '  %s\n' "${failed[@]}"
  status=1
fi
exit $status
