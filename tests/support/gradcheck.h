#pragma once
// Gradients against finite differences, in float64.

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>
#include <vector>

namespace segmamba::testing {

struct GradcheckOptions {
  double step = 1e-6;
  double relative = 1e-6;
  double absolute = 1e-8;
  // Elements of each input that are tried, spread evenly; 0: all.
  std::int64_t elements = 0;
};

// Compares d sum(R * function(inputs)) / d input, R a fixed pattern of cosines, with central
// differences, for every input that requires a gradient. Inputs must be float64 leaves.
inline ::testing::AssertionResult gradcheck(
    const std::function<torch::Tensor(const std::vector<torch::Tensor>&)>& function,
    const std::vector<torch::Tensor>& inputs, const GradcheckOptions& options = {}) {
  const auto objective = [&] {
    const auto out = function(inputs).flatten();
    const auto weights = torch::cos(torch::arange(out.numel(), torch::kFloat64) * 0.37 + 0.2);
    return (out * weights).sum();
  };
  std::vector<torch::Tensor> wanted;
  for (const auto& input : inputs) {
    if (input.defined() && input.requires_grad()) wanted.push_back(input);
  }
  const auto gradients = torch::autograd::grad({objective()}, wanted);
  const torch::NoGradGuard no_grad;
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    if (wanted[i].scalar_type() != torch::kFloat64) {
      return ::testing::AssertionFailure() << "input " << i << " is not float64";
    }
    const auto values = wanted[i].view({-1});
    const auto gradient = gradients[i].reshape({-1});
    const std::int64_t count = values.numel();
    const std::int64_t tried = options.elements > 0 ? std::min(options.elements, count) : count;
    for (std::int64_t j = 0; j < tried; ++j) {
      const std::int64_t at = j * count / tried;
      const double value = values[at].item<double>();
      const double step = options.step * std::max(1.0, std::abs(value));
      values[at] = value + step;
      const double above = objective().item<double>();
      values[at] = value - step;
      const double below = objective().item<double>();
      values[at] = value;
      const double expected = (above - below) / (2 * step);
      const double got = gradient[at].item<double>();
      if (!(std::abs(got - expected) <=
            options.absolute + options.relative * std::max(1.0, std::abs(expected)))) {
        return ::testing::AssertionFailure() << "input " << i << " element " << at << ": gradient "
                                             << got << ", finite difference " << expected;
      }
    }
  }
  return ::testing::AssertionSuccess();
}

}  // namespace segmamba::testing
