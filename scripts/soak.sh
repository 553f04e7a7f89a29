#!/usr/bin/env bash
# Trains for hours on generated data and shows whether memory or the time of a step grows.
#
#   scripts/soak.sh HOURS [FOLDER]      FOLDER: for its files, build/soak if not given
#
# Everything that a training does happens often: augmentation from a cache on disk, validation,
# checkpoints, metrics, pages. Prints the slope of the resident memory after the first tenth and the
# time of a step in each tenth. Ends with 1 where memory grows by more than 1 % from the second tenth
# to the last, or the time of a step by more than 25 % (other load on the machine counts, too). Run
# again in the same folder, it goes on where the training stopped.
. "$(dirname "$0")/common.sh"

hours=${1:-}
[[ $hours =~ ^[0-9]*\.?[0-9]+$ ]] || die "how many hours? (see --help)"
folder=${2:-$build/soak}
"$root/scripts/build.sh" segmamba-train segmamba-data
exec "$root/.deps/venv/bin/python" "$root/scripts/soak.py" "$build/bin" "$folder" "$hours"
