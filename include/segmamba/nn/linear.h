#pragma once

#include <torch/torch.h>

namespace segmamba::nn {

// What the layer computes, but with the bias added inside the product: LibTorch's own forward adds
// it afterwards, in a pass over the result.
inline torch::Tensor linear(const torch::nn::Linear& layer, const torch::Tensor& input) {
  return torch::linear(input, layer->weight, layer->bias);
}

// A layer of so many inputs and outputs; shorter than its options.
inline torch::nn::Linear make_linear(std::int64_t inputs, std::int64_t outputs, bool bias = true) {
  return torch::nn::Linear(torch::nn::LinearOptions(inputs, outputs).bias(bias));
}

}  // namespace segmamba::nn
