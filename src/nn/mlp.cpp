#include "segmamba/nn/mlp.h"

#include "segmamba/nn/linear.h"

namespace segmamba::nn {

MlpImpl::MlpImpl(std::int64_t channels, std::int64_t hidden, const MlpNames& names, double dropout)
    : dropout_(dropout) {
  first = register_module(names[0], make_linear(channels, hidden));
  second = register_module(names[1], make_linear(hidden, channels));
}

torch::Tensor MlpImpl::forward(const torch::Tensor& input) {
  const auto hidden = torch::dropout(torch::gelu(linear(first, input)), dropout_, is_training());
  return torch::dropout(linear(second, hidden), dropout_, is_training());
}

}  // namespace segmamba::nn
