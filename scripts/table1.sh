#!/usr/bin/env bash
# Table 1 of the paper: trains every method on one data set under one recipe, segments the test
# cases and scores them, in the table's layout and beside the paper's own numbers.
#
#   scripts/table1.sh DATA [options] [-- options of segmamba-train]
#   scripts/table1.sh --smoke [options]
#
#   DATA              cases as segmamba-data check takes them, such as BraTS2023's training folder
#   --smoke           small networks on generated cases: less than an hour on two cores
#   --output DIR      default table1, or table1-smoke; holds a run and predictions a method
#   --methods A,B     names of configs/table1/*.yaml, default all of them
#   --gpus N          of this machine, default 1 (or the CPU where there is none)
#
# Run again, it goes on where it stopped. On one GPU the paper's recipe takes days a method:
# --methods shares them among machines, and a last run with all of them scores what is there.
. "$(dirname "$0")/common.sh"
cd "$root"

data="" output="" methods="" gpus=1 smoke=0
while [ $# -gt 0 ]; do
  case "$1" in
    --smoke) smoke=1 ;;
    --output | --methods | --gpus)
      [ $# -gt 1 ] || die "$1 needs a value"
      declare "${1#--}=$2"
      shift ;;
    --) shift; break ;;
    -*) die "there is no option $1; see --help" ;;
    *) [ -z "$data" ] || die "$1 is one argument too many"; data=$1 ;;
  esac
  shift
done
configs=configs/table1
[ "$smoke" = 1 ] && configs=configs/table1/smoke
if [ "$smoke" = 0 ] && [ -z "$data" ]; then die "give the data set, or --smoke; see --help"; fi
if [ "$smoke" = 1 ] && [ -n "$data" ]; then die "--smoke generates its own data"; fi
[ -z "$data" ] || [ -d "$data" ] || die "$data is no folder"
[ -n "$output" ] || output=table1$([ "$smoke" = 1 ] && echo -smoke || true)

# In the order of the paper's table, then those that it has not; the name of its row.
order=(segresnet uxnet mednext unetr swin_unetr swin_unetr_v2 nnformer segmamba
       transbts nnunet nnunet_resenc umamba_bot umamba_enc vim vmamba)
declare -A title=(
  [segresnet]=SegResNet [uxnet]=UX-Net [mednext]=MedNeXt [unetr]=UNETR [swin_unetr]=SwinUNETR
  [swin_unetr_v2]=SwinUNETR-V2 [nnformer]=nnFormer [segmamba]=SegMamba [transbts]=TransBTS
  [nnunet]=nnU-Net [nnunet_resenc]=nnU-Net-ResEnc [umamba_bot]=U-Mamba-Bot
  [umamba_enc]=U-Mamba-Enc [vim]=Vim-3D [vmamba]=VMamba-3D)
chosen=("${order[@]}")
[ -z "$methods" ] || IFS=, read -r -a chosen <<<"$methods"
for method in "${chosen[@]}"; do
  [ -f "$configs/$method.yaml" ] || die "there is no $configs/$method.yaml"
done

started=$SECONDS
step() { say "[$((SECONDS - started)) s] $*"; }

[ -n "${SEGMAMBA_BIN:-}" ] || scripts/build.sh
bin=${SEGMAMBA_BIN:-$build/bin}
mkdir -p "$output"
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
[ -f "$split" ] || "$bin/segmamba-data" split "$data" --seed 1 --output "$split"

for method in "${chosen[@]}"; do
  run=$output/$method/run
  step "${title[$method]:-$method}: train"
  resume=()
  [ -f "$run/checkpoints/last.pt" ] && resume=(--resume)
  "$bin/segmamba-train" --config "$configs/$method.yaml" --set "data.root=$data" \
    --set "data.split=$split" --output "$run" --gpus "$gpus" \
    ${resume[@]+"${resume[@]}"} "$@"
  step "${title[$method]:-$method}: segment the test cases"
  "$bin/segmamba-infer" --checkpoint "$run/checkpoints/best.pt" --input "$data" --split "$split" \
    --part test --output "$output/$method/predictions" --skip-existing
done

predictions=()
for method in "${order[@]}"; do
  folder=$output/$method/predictions
  if [ -d "$folder" ]; then predictions+=(--prediction "${title[$method]}=$folder"); fi
done
step "Score"
published=(--published configs/table1/paper.csv)
"$bin/segmamba-eval" "${predictions[@]}" --reference "$data" --split "$split" --part test \
  "${published[@]}" --output "$output/evaluation" --overwrite
say "Done in $((SECONDS - started)) s. The table: $output/evaluation/table.md, table.tex, report.html."
