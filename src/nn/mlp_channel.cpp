#include "segmamba/nn/mlp_channel.h"

#include "segmamba/nn/mlp.h"

namespace segmamba::nn {

MlpChannelImpl::MlpChannelImpl(std::int64_t channels, std::int64_t hidden) {
  fc1 = register_module("fc1", Convolution(torch::nn::Conv3dOptions(channels, hidden, 1)));
  fc2 = register_module("fc2", Convolution(torch::nn::Conv3dOptions(hidden, channels, 1)));
}

torch::Tensor MlpChannelImpl::forward(const torch::Tensor& input) {
  return gelu_product(fc1(input), [this](const torch::Tensor& hidden) { return fc2(hidden); });
}

}  // namespace segmamba::nn
