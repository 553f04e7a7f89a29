#pragma once

#include <string>

#include "segmamba/nn/model.h"

namespace segmamba::nn {

// Where infinite or nan values first appear in the forward pass of `model` on `input`, in words:
// "the parameter out.conv.conv.bias", "the input", "the result of aten::convolution [2, 8, 16, 16,
// 16], operator 12 of the forward pass"; "" where all are finite. Runs the forward pass once more,
// in the autocast state of the caller: for the rare step that has gone wrong.
std::string first_non_finite(SegmentationModel& model, const torch::Tensor& input);

}  // namespace segmamba::nn
