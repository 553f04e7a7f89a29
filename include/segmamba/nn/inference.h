#pragma once

#include <torch/torch.h>

#include "segmamba/nn/model.h"

namespace segmamba::nn {

// Lays a model out for inference alone, in place; it cannot be trained afterwards. Data run through
// it channels last, in `type` (float32, bfloat16 or float16): the weights of convolutions and
// projections are converted once, while what a scan's states and the norms are made of stays in
// float32, as under autocast. The input is converted on its way in and the logits back to the
// input's type on their way out. Call it once, where the model's device has been chosen, and run
// the model without gradients. Results are those of the model before, to rounding: on the CPU some
// convolutions take another algorithm (convolution.h). Throws Error on any other type.
void prepare_for_inference(SegmentationModel& model, torch::ScalarType type);

// Whether this processor computes the networks faster in bfloat16 than in float32.
bool bfloat16_is_fast();

}  // namespace segmamba::nn
