#include "segmamba/nn/norms.h"

#include <ATen/autocast_mode.h>

#include <utility>

#include "segmamba/nn/recompute.h"

namespace segmamba::nn {

torch::Tensor instance_norm(torch::Tensor input, ops::AfterNorm after) {
  // Autocast and parts that stay in float32 leave the types apart.
  const auto type = input.scalar_type();
  const auto state = type == torch::kFloat64 ? torch::kFloat64 : torch::kFloat32;
  for (auto* volume : {&after.shortcut, &after.residual}) {
    if (volume->defined()) *volume = volume->to(type);
  }
  for (auto* values : {&after.weight, &after.bias, &after.shortcut_weight, &after.shortcut_bias}) {
    if (values->defined()) *values = values->to(state);
  }
  return ops::instance_norm(std::move(input), after);
}

AffineInstanceNormImpl::AffineInstanceNormImpl(std::int64_t channels, bool affine)
    : channels_(channels) {
  if (!affine) return;
  weight = register_parameter("weight", torch::empty({channels}));
  bias = register_parameter("bias", torch::empty({channels}));
  reset_parameters();
}

torch::Tensor AffineInstanceNormImpl::forward(torch::Tensor input, ops::AfterNorm after) {
  after.weight = weight;
  after.bias = bias;
  return segmamba::nn::instance_norm(std::move(input), after);
}

void AffineInstanceNormImpl::reset_parameters() {
  if (!weight.defined()) return;
  torch::nn::init::ones_(weight);
  torch::nn::init::zeros_(bias);
}

void AffineInstanceNormImpl::pretty_print(std::ostream& stream) const {
  stream << "AffineInstanceNorm(" << channels_ << (weight.defined() ? "" : ", affine=false") << ")";
}

torch::Tensor GroupNormImpl::forward(const torch::Tensor& input) {
  const auto type = input.scalar_type();
  if (type != torch::kBFloat16 && type != torch::kHalf) {
    return torch::nn::GroupNormImpl::forward(input);
  }
  return torch::nn::GroupNormImpl::forward(input.to(torch::kFloat)).to(type);
}

torch::Tensor BatchNormImpl::forward(const torch::Tensor& input) {
  if (!is_training() || !is_recomputing()) return torch::nn::BatchNorm3dImpl::forward(input);
  return torch::batch_norm(input, weight, bias, /*running_mean=*/{}, /*running_var=*/{},
                           /*training=*/true, options.momentum().value_or(0), options.eps(),
                           torch::globalContext().userEnabledCuDNN());
}

torch::Tensor last_axis_norm(const torch::Tensor& input, const torch::Tensor& weight,
                             const torch::Tensor& bias, double eps) {
  const auto channels = input.sizes().slice(input.dim() - 1);
  // The kernels for the CPU take parameters in float32 with data of 16 bits, those for GPUs do not
  // (2.11); autocast brings them together by itself.
  const bool converts = input.is_cuda() && weight.defined() &&
                        weight.scalar_type() != input.scalar_type() &&
                        !at::autocast::is_autocast_enabled(input.device().type());
  if (!converts) return torch::layer_norm(input, channels, weight, bias, eps);
  const auto type = input.scalar_type();
  return torch::layer_norm(input, channels, weight.to(type), bias.to(type), eps);
}

LayerNormImpl::LayerNormImpl(std::int64_t channels)
    : torch::nn::LayerNormImpl(torch::nn::LayerNormOptions({channels})) {}

torch::Tensor LayerNormImpl::forward(const torch::Tensor& input) {
  return last_axis_norm(input, weight, bias, options.eps());
}

ChannelLayerNormImpl::ChannelLayerNormImpl(std::int64_t channels, double eps) : eps_(eps) {
  weight = register_parameter("weight", torch::empty({channels}));
  bias = register_parameter("bias", torch::empty({channels}));
  reset_parameters();
}

torch::Tensor ChannelLayerNormImpl::forward(const torch::Tensor& input) {
  return last_axis_norm(input.movedim(1, -1), weight, bias, eps_).movedim(-1, 1);
}

void ChannelLayerNormImpl::reset_parameters() {
  torch::nn::init::ones_(weight);
  torch::nn::init::zeros_(bias);
}

void ChannelLayerNormImpl::pretty_print(std::ostream& stream) const {
  stream << "ChannelLayerNorm(" << weight.size(0) << ")";
}

RmsNormImpl::RmsNormImpl(std::int64_t channels) {
  weight = register_parameter("weight", torch::empty({channels}));
  reset_parameters();
}

torch::Tensor RmsNormImpl::forward(const torch::Tensor& input) {
  constexpr double kEps = 1e-5;
  const auto type = input.scalar_type();
  const auto x = type == torch::kDouble ? input : input.to(torch::kFloat);
  const auto scale = torch::rsqrt((x * x).mean(-1, /*keepdim=*/true) + kEps);
  return (x * scale * weight).to(type);
}

void RmsNormImpl::reset_parameters() { torch::nn::init::ones_(weight); }

}  // namespace segmamba::nn
