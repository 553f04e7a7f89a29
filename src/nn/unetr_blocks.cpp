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

ResidualBlockImpl::ResidualBlockImpl(std::int64_t in_channels, std::int64_t out_channels,
                                     const UnetrBlockOptions& options)
    : residual_(options.residual) {
  const auto norm = [&] { return AffineInstanceNorm(out_channels, options.affine); };
  conv1 = register_module("conv1", convolution(in_channels, out_channels, 3));
  conv2 = register_module("conv2", convolution(out_channels, out_channels, 3));
  norm1 = register_module("norm1", norm());
  norm2 = register_module("norm2", norm());
  if (!residual_ || in_channels == out_channels) return;
  conv3 = register_module("conv3", convolution(in_channels, out_channels, 1));
  norm3 = register_module("norm3", norm());
}

torch::Tensor ResidualBlockImpl::forward(torch::Tensor input) {
  return compute(
      {[](std::vector<torch::Tensor> x) { return std::move(x[0]); }, {std::move(input)}});
}

torch::Tensor ResidualBlockImpl::compute(FormedAgain origin) {
  constexpr double kSlope = 0.01;
  auto input = origin.take();
  auto output = conv1->forward(input);
  origin.forget_input_of(output);
  output = norm1(std::move(output), ops::AfterNorm{.slope = kSlope});
  ops::AfterNorm after{.slope = kSlope};
  if (!conv3.is_empty()) {
    auto shortcut = origin.then(
        std::move(input),
        [conv = conv3](std::vector<torch::Tensor> x) mutable { return conv->forward(x[0]); });
    after.shortcut = shortcut.take();
    origin.forget_input_of(after.shortcut);
    after.form_shortcut = shortcut.form();
    after.normalises_shortcut = true;
    after.shortcut_weight = norm3->weight;
    after.shortcut_bias = norm3->bias;
  } else if (residual_) {
    after.shortcut = std::move(input);
  }
  output = conv2->forward(output);
  return norm2(std::move(output), std::move(after));
}

UnetrBasicBlockImpl::UnetrBasicBlockImpl(std::int64_t in_channels, std::int64_t out_channels,
                                         const UnetrBlockOptions& options) {
  layer = register_module("layer", ResidualBlock(in_channels, out_channels, options));
}

torch::Tensor UnetrBasicBlockImpl::forward(torch::Tensor input) { return layer(std::move(input)); }

UnetrUpBlockImpl::UnetrUpBlockImpl(std::int64_t in_channels, std::int64_t out_channels,
                                   const UnetrBlockOptions& options) {
  up_ = UpConvolution(in_channels, out_channels);
  register_module("transp_conv", wrapped(up_));
  conv_block =
      register_module("conv_block", ResidualBlock(2 * out_channels, out_channels, options));
}

torch::Tensor UnetrUpBlockImpl::forward(torch::Tensor input, torch::Tensor skip) {
  std::vector<torch::Tensor> both{std::move(input), std::move(skip)};
  return conv_block->compute({[up = up_](std::vector<torch::Tensor> x) mutable {
                                return up->forward_beside(std::move(x[0]), std::move(x[1]));
                              },
                              std::move(both)});
}

UnetrProjectionUpBlockImpl::UnetrProjectionUpBlockImpl(std::int64_t in_channels,
                                                       std::int64_t out_channels,
                                                       std::int64_t steps,
                                                       const UnetrBlockOptions& options) {
  first_ = UpConvolution(in_channels, out_channels);
  register_module("transp_conv_init", wrapped(first_));
  torch::nn::ModuleList pairs;
  for (std::int64_t i = 1; i < steps; ++i) {
    ups_.emplace_back(out_channels, out_channels);
    if (!options.convolves) {
      pairs->push_back(wrapped(ups_.back()));
      continue;
    }
    blocks_.emplace_back(out_channels, out_channels, options);
    pairs->push_back(torch::nn::Sequential(wrapped(ups_.back()), blocks_.back()));
  }
  register_module("blocks", pairs);
}

torch::Tensor UnetrProjectionUpBlockImpl::forward(torch::Tensor input) {
  auto output = first_->forward(input);
  for (std::size_t i = 0; i < ups_.size(); ++i) {
    output = ups_[i]->forward(output);
    if (!blocks_.empty()) output = blocks_[i]->forward(std::move(output));
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
