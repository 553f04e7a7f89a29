#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "segmamba/data/regions.h"

namespace segmamba::engine {

// Scores [..., K, D, H, W] -> classes [..., D, H, W], uint8, on the same device: that of the
// greatest score, the first of equal ones; with regions what the last region whose score is above
// `threshold` paints (0 for logits, 0.5 for probabilities).
at::Tensor classes_of(const at::Tensor& scores, const std::vector<data::Region>& regions,
                      double threshold);

}  // namespace segmamba::engine
