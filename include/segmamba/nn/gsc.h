#pragma once
// Gated spatial convolution.

#include <torch/torch.h>

#include <cstdint>

#include "segmamba/nn/convolution.h"

namespace segmamba::nn {

// GSC (arXiv 2401.13560, section 2.2; ge-xing/SegMamba at cff3597), before the Mamba layers of a
// stage. With f_i(x) = ReLU(IN(proj_i x)), proj and proj2 of 3^3 taps, proj3 and proj4 of one:
//   out = f_4(f_2(f_1(x)) + f_3(x)) + x
// [B, C, D, H, W] -> the same.
class GscImpl : public torch::nn::Module {
 public:
  explicit GscImpl(std::int64_t channels);
  torch::Tensor forward(const torch::Tensor& input);

  Convolution proj{nullptr}, proj2{nullptr}, proj3{nullptr}, proj4{nullptr};
};
TORCH_MODULE(Gsc);

}  // namespace segmamba::nn
