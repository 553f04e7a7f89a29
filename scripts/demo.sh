#!/usr/bin/env bash
# The whole job on generated data, on a laptop: build, generate brains with tumours, train a small
# SegMamba, segment the held-out ones, score them, and draw pictures. Everything goes into demo/.
#
#   scripts/demo.sh
#
# Run again, it goes on where it stopped; `rm -r demo` starts over.
. "$(dirname "$0")/common.sh"
cd "$root"

started=$SECONDS
step() { say "[$((SECONDS - started)) s] $*"; }

step "1/7 Set up and build (the first time: some minutes)"
scripts/build.sh
bin="$build/bin"

step "2/7 Generate 40 cases like those of BraTS2023: four modalities and a reference each"
if [ ! -f demo/data/.complete ]; then
  rm -rf demo/data
  "$bin/segmamba-data" phantom --output demo/data --cases 40 --size 64 --seed 1
  touch demo/data/.complete
fi

step "3/7 Check the data set, as one would a real one"
"$bin/segmamba-data" check demo/data

step "4/7 Split it by patient: 70 % to train, 10 % to choose the best checkpoint, 20 % to test"
[ -f demo/split.yaml ] || "$bin/segmamba-data" split demo/data --seed 1 --output demo/split.yaml
echo "How far one global threshold on one modality gets on the test cases (Dice of the whole tumour):"
"$bin/segmamba-data" threshold demo/data --split demo/split.yaml --part test

step "5/7 Train a small SegMamba (configs/demo.yaml)"
resume=()
[ -f demo/run/checkpoints/last.pt ] && resume=(--resume)
"$bin/segmamba-train" --config configs/demo.yaml --set data.root=demo/data \
  --set data.split=demo/split.yaml --output demo/run ${resume[@]+"${resume[@]}"}

step "6/7 Segment the test cases, which training never saw"
"$bin/segmamba-infer" --checkpoint demo/run/checkpoints/best.pt --input demo/data \
  --split demo/split.yaml --part test --output demo/predictions --pictures \
  --skip-existing

step "7/7 Score them"
"$bin/segmamba-eval" --prediction demo/predictions --reference demo/data \
  --split demo/split.yaml --part test --convention segmamba,brats2023 \
  --output demo/evaluation --overwrite

say "Done in $((SECONDS - started)) s. Look at demo/run/report.html, demo/predictions/report.html and demo/evaluation/report.html."
echo "On your own cases:"
echo "  build/bin/segmamba-infer --checkpoint demo/run/checkpoints/best.pt --input CASE --output OUT"
