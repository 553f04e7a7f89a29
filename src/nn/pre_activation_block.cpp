#include "segmamba/nn/pre_activation_block.h"

#include "segmamba/nn/chain.h"

namespace segmamba::nn {

PreActivationBlockImpl::PreActivationBlockImpl(const PreActivationBlockOptions& options) {
  const auto channels = options.channels;
  const auto norm = [&](const char* number) {
    return register_module(options.norm_name + number,
                           GroupNorm(torch::nn::GroupNormOptions(options.groups, channels)));
  };
  const auto convolution = [&](const char* name) {
    Convolution layer(
        torch::nn::Conv3dOptions(channels, channels, 3).padding(1).bias(options.bias));
    if (options.wraps) {
      register_module(name, wrapped(layer));
    } else {
      register_module(name, layer);
    }
    return layer;
  };
  norm1_ = norm("1");
  conv1_ = convolution("conv1");
  norm2_ = norm("2");
  conv2_ = convolution("conv2");
}

torch::Tensor PreActivationBlockImpl::forward(const torch::Tensor& input) {
  return conv2_(norm2_(conv1_(norm1_(input).relu_())).relu_()).add_(input);
}

}  // namespace segmamba::nn
