#include "segmamba/nn/unetr_blocks.h"

#include <utility>

#include "segmamba/nn/norms.h"

namespace segmamba::nn {
namespace {

Chain convolution(std::int64_t in_channels, std::int64_t out_channels, std::int64_t kernel,
                  bool bias = false) {
  return wrapped(Convolution(
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
  auto output = instance_norm(conv1->forward(input), {.slope = kSlope});
  const bool projects = !conv3.is_empty();
  auto shortcut = projects ? conv3->forward(input) : input;
  input.reset();
  output = conv2->forward(output);
  return instance_norm(
      std::move(output),
      {.shortcut = std::move(shortcut), .normalises_shortcut = projects, .slope = kSlope});
}

UnetrBasicBlockImpl::UnetrBasicBlockImpl(std::int64_t in_channels, std::int64_t out_channels) {
  layer = register_module("layer", ResidualBlock(in_channels, out_channels));
}

torch::Tensor UnetrBasicBlockImpl::forward(torch::Tensor input) { return layer(std::move(input)); }

UnetrUpBlockImpl::UnetrUpBlockImpl(std::int64_t in_channels, std::int64_t out_channels) {
  up_ = UpConvolution(in_channels, out_channels);
  register_module("transp_conv", wrapped(up_));
  conv_block = register_module("conv_block", ResidualBlock(2 * out_channels, out_channels));
}

torch::Tensor UnetrUpBlockImpl::forward(torch::Tensor input, torch::Tensor skip) {
  return conv_block(up_->forward_beside(std::move(input), std::move(skip)));
}

UnetrProjectionUpBlockImpl::UnetrProjectionUpBlockImpl(std::int64_t in_channels,
                                                       std::int64_t out_channels,
                                                       std::int64_t steps) {
  first_ = UpConvolution(in_channels, out_channels);
  register_module("transp_conv_init", wrapped(first_));
  torch::nn::ModuleList pairs;
  for (std::int64_t i = 1; i < steps; ++i) {
    ups_.emplace_back(out_channels, out_channels);
    blocks_.emplace_back(out_channels, out_channels);
    pairs->push_back(torch::nn::Sequential(wrapped(ups_.back()), blocks_.back()));
  }
  register_module("blocks", pairs);
}

torch::Tensor UnetrProjectionUpBlockImpl::forward(torch::Tensor input) {
  auto output = first_->forward(std::move(input));
  for (std::size_t i = 0; i < ups_.size(); ++i) {
    output = ups_[i]->forward(std::move(output));
    output = blocks_[i]->forward(std::move(output));
  }
  return output;
}

UnetrOutBlockImpl::UnetrOutBlockImpl(std::int64_t in_channels, std::int64_t out_channels) {
  conv = register_module("conv", convolution(in_channels, out_channels, 1, /*bias=*/true));
}

torch::Tensor UnetrOutBlockImpl::forward(const torch::Tensor& input) {
  return conv->forward(input);
}

}  // namespace segmamba::nn
