#include "segmamba/nn/initial_values.h"

#include <cmath>
#include <numbers>

namespace segmamba::nn {

void truncated_normal_(torch::Tensor tensor, double deviation) {
  constexpr double kCut = 2;
  const torch::NoGradGuard no_grad;
  // Uniform between the distribution's values at the cuts, through its inverse. In double: near 1,
  // float has no numbers to tell the tail apart.
  const double most = std::erf(kCut / deviation / std::numbers::sqrt2);
  auto values = torch::empty(tensor.sizes(), tensor.options().dtype(torch::kDouble))
                    .uniform_(-most, most)
                    .erfinv_()
                    .mul_(deviation * std::numbers::sqrt2)
                    .clamp_(-kCut, kCut);
  tensor.copy_(values);
}

void initial_delta_bias_(torch::Tensor bias) {
  const torch::NoGradGuard no_grad;
  const double low = std::log(0.001), high = std::log(0.1);
  const auto dt = torch::empty_like(bias).uniform_(low, high).exp().clamp_min(1e-4);
  bias.copy_(dt + torch::log(-torch::expm1(-dt)));  // softplus(dt + log(1 - exp(-dt))) = dt
}

}  // namespace segmamba::nn
