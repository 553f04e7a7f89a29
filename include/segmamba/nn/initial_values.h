#pragma once

#include <torch/torch.h>

namespace segmamba::nn {

// Fills `tensor` in place from the normal distribution of mean 0 and this deviation, cut off at -2
// and 2 (not at two deviations): timm's trunc_normal_.
void truncated_normal_(torch::Tensor tensor, double deviation);

// Fills `bias` in place such that softplus(bias) is log-uniform in [0.001, 0.1]: Mamba's first time
// steps (state-spaces/mamba at e9594ce).
void initial_delta_bias_(torch::Tensor bias);

}  // namespace segmamba::nn
