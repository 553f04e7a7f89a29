#pragma once
// The multilayer perceptron of a transformer block.

#include <torch/torch.h>

#include <array>
#include <cstdint>
#include <functional>
#include <string>

namespace segmamba::nn {

// product(gelu(hidden)), the product a linear layer or a convolution: for gradients `hidden` is
// kept and its gelu formed again. By value: without gradients, the gelu takes the memory of
// `hidden`.
torch::Tensor gelu_product(torch::Tensor hidden,
                           const std::function<torch::Tensor(const torch::Tensor&)>& product);

// What the originals call the two layers: MONAI, and the Swin transformer with those who follow it.
using MlpNames = std::array<const char*, 2>;
inline constexpr MlpNames kMonaiMlpNames = {"linear1", "linear2"}, kSwinMlpNames = {"fc1", "fc2"};

// y = drop(second(drop(gelu(first x)))), gelu in its exact form. [..., channels] -> the same.
class MlpImpl : public torch::nn::Module {
 public:
  MlpImpl(std::int64_t channels, std::int64_t hidden, const MlpNames& names, double dropout = 0);
  torch::Tensor forward(const torch::Tensor& input);

  torch::nn::Linear first{nullptr}, second{nullptr};

 private:
  double dropout_;
};
TORCH_MODULE(Mlp);

}  // namespace segmamba::nn
