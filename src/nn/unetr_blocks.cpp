#include "segmamba/nn/unetr_blocks.h"

#include <utility>

#include "segmamba/nn/norms.h"

namespace segmamba::nn {
namespace {

// MONAI wraps each convolution in a module that calls it `conv`; the state-dict names keep that.
template <class Convolution>
torch::nn::Sequential wrap(const Convolution& convolution) {
  return torch::nn::Sequential({{"conv", convolution}});
}

torch::nn::Sequential convolution(std::int64_t in_channels, std::int64_t out_channels,
                                  std::int64_t kernel, bool bias = false) {
  return wrap(torch::nn::Conv3d(
      torch::nn::Conv3dOptions(in_channels, out_channels, kernel).padding(kernel / 2).bias(bias)));
}

}  // namespace

ResidualBlockImpl::ResidualBlockImpl(std::int64_t in_channels, std::int64_t out_channels) {
  conv1 = register_module("conv1", convolution(in_channels, out_channels, 3));
  conv2 = register_module("conv2", convolution(out_channels, out_channels, 3));
  if (in_channels != out_channels) {
    conv3 = register_module("conv3", convolution(in_channels, out_channels, 1));
  }
}

torch::Tensor ResidualBlockImpl::forward(torch::Tensor input) {
  constexpr double kSlope = 0.01;
  auto output = instance_norm(conv1->forward(input));
  torch::leaky_relu_(output, kSlope);
  const auto shortcut = conv3 ? instance_norm(conv3->forward(input)) : input;
  input.reset();
  output = instance_norm(conv2->forward(output));
  output += shortcut;
  return torch::leaky_relu_(output, kSlope);
}

UnetrBasicBlockImpl::UnetrBasicBlockImpl(std::int64_t in_channels, std::int64_t out_channels) {
  layer = register_module("layer", ResidualBlock(in_channels, out_channels));
}

torch::Tensor UnetrBasicBlockImpl::forward(torch::Tensor input) { return layer(std::move(input)); }

UnetrUpBlockImpl::UnetrUpBlockImpl(std::int64_t in_channels, std::int64_t out_channels) {
  transp_conv = register_module(
      "transp_conv",
      wrap(torch::nn::ConvTranspose3d(
          torch::nn::ConvTranspose3dOptions(in_channels, out_channels, 2).stride(2).bias(false))));
  conv_block = register_module("conv_block", ResidualBlock(2 * out_channels, out_channels));
}

torch::Tensor UnetrUpBlockImpl::forward(torch::Tensor input, torch::Tensor skip) {
  auto up = transp_conv->forward(input);
  input.reset();
  auto both = torch::cat({up, skip}, 1);
  up.reset();
  skip.reset();
  return conv_block(std::move(both));
}

UnetrOutBlockImpl::UnetrOutBlockImpl(std::int64_t in_channels, std::int64_t out_channels) {
  conv = register_module("conv", convolution(in_channels, out_channels, 1, /*bias=*/true));
}

torch::Tensor UnetrOutBlockImpl::forward(const torch::Tensor& input) {
  return conv->forward(input);
}

}  // namespace segmamba::nn
