#pragma once
// Lesions of prediction and reference, and which belong together (LesionRule in convention.h).

#include <vector>

#include "segmamba/metrics/components.h"
#include "segmamba/metrics/convention.h"

namespace segmamba::metrics {

// A reference lesion with the union of the predicted lesions matched to it, in a box of their own.
struct LesionMatch {
  Mask prediction, reference;
  bool found = false;   // some predicted lesion is matched
  bool scored = false;  // the volume is above the rule's minimum
};

struct LesionMatches {
  std::vector<LesionMatch> lesions;
  std::int64_t false_positives = 0;  // predicted lesions matched by no reference lesion
};

// Parts of `mask` whose dilations are connected. Numbered as the dilated components.
Components merged_lesions(const Mask& mask, int dilation);

// 0 and then the numbers of the lesions of more than `voxels` voxels, ascending.
std::vector<std::int32_t> numbers_above(const Components& lesions, double voxels);
// Keeps only those, numbered anew in their order.
Components without_small(const Components& lesions, double voxels);

// The lesions of `own` that touch (18 neighbours) the same lesion of `tissue` become one. Nothing
// happens where there is only one contact.
Components joined_through(const Components& own, const Components& tissue);

LesionMatches match_lesions(const Components& prediction, const Components& reference,
                            const LesionRule& rule, const Spacing& spacing);

Mask to_mask(const Components& lesions);

}  // namespace segmamba::metrics
