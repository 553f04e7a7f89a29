#pragma once
// How far intensities alone go: the baseline that a trained model has to beat.

#include <vector>

#include "segmamba/data/prepared_case.h"

namespace segmamba::data {

struct ThresholdResult {
  double dice = 0;       // whole tumour, mean over the cases
  double threshold = 0;  // in z-scores
  bool above = true;     // the tumour is z >= threshold; otherwise z < threshold
};

// For each channel the one threshold, the same for all cases and on either side, that gives the
// best mean whole-tumour Dice among the non-zero voxels. It is chosen on these very cases with
// their labels, so no single-modality threshold can do better (to the step of 1/128 of a z-score).
// Throws Error where there are no cases, no labels, or the numbers of channels differ.
std::vector<ThresholdResult> best_threshold_dice(const std::vector<PreparedCase>& cases);

}  // namespace segmamba::data
