#include "segmamba/nn/mlp.h"

#include <utility>
#include <vector>

#include "segmamba/nn/linear.h"
#include "segmamba/nn/recompute.h"

namespace segmamba::nn {

torch::Tensor gelu_product(torch::Tensor hidden,
                           const std::function<torch::Tensor(const torch::Tensor&)>& product) {
  if (!at::GradMode::is_enabled()) return product(at::gelu_(hidden));
  FormedAgain active([](std::vector<torch::Tensor> x) { return torch::gelu(x[0]); }, {hidden});
  auto output = product(active.take());
  active.forget_input_of(output);
  return output;
}

MlpImpl::MlpImpl(std::int64_t channels, std::int64_t hidden, const MlpNames& names, double dropout)
    : dropout_(dropout) {
  first = register_module(names[0], make_linear(channels, hidden));
  second = register_module(names[1], make_linear(hidden, channels));
}

torch::Tensor MlpImpl::forward(const torch::Tensor& input) {
  const auto product = [this](const torch::Tensor& hidden) { return linear(second, hidden); };
  if (dropout_ == 0 || !is_training()) return gelu_product(linear(first, input), product);
  const auto hidden = torch::dropout(torch::gelu(linear(first, input)), dropout_, true);
  return torch::dropout(product(hidden), dropout_, true);
}

}  // namespace segmamba::nn
