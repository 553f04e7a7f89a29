#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <string>

#include "segmamba/nn/convolution.h"
#include "segmamba/nn/norms.h"

namespace segmamba::nn {

struct PreActivationBlockOptions {
  std::int64_t channels;
  std::int64_t groups;             // of the norms
  std::string norm_name = "norm";  // "norm1" and "norm2" in the state dict
  bool wraps = false;              // the convolutions are "conv1.conv" and "conv2.conv": MONAI's
  bool bias = true;                // of the convolutions
};

// The residual block of SegResNet and of TransBTS's encoder (arXiv 1603.05027), GN = group norm,
// 3^3 taps: x + conv2(relu(GN(conv1(relu(GN x))))). [B, C, D, H, W] -> the same.
class PreActivationBlockImpl : public torch::nn::Module {
 public:
  explicit PreActivationBlockImpl(const PreActivationBlockOptions& options);
  torch::Tensor forward(const torch::Tensor& input);

 private:
  GroupNorm norm1_{nullptr}, norm2_{nullptr};
  Convolution conv1_{nullptr}, conv2_{nullptr};
};
TORCH_MODULE(PreActivationBlock);

}  // namespace segmamba::nn
