#pragma once
// The MLP over channels at a stage's output.

#include <torch/torch.h>

#include <cstdint>

#include "segmamba/nn/convolution.h"

namespace segmamba::nn {

// out = fc2(GELU(fc1(x))) with 1^3 convolutions C -> hidden -> C and the exact (erf) GELU.
// [B, C, D, H, W] -> the same.
class MlpChannelImpl : public torch::nn::Module {
 public:
  MlpChannelImpl(std::int64_t channels, std::int64_t hidden);
  torch::Tensor forward(const torch::Tensor& input);

  Convolution fc1{nullptr}, fc2{nullptr};
};
TORCH_MODULE(MlpChannel);

}  // namespace segmamba::nn
