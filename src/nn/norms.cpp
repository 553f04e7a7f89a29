#include "segmamba/nn/norms.h"

#include <ATen/autocast_mode.h>

#include <utility>

#include "segmamba/nn/recompute.h"

namespace segmamba::nn {
namespace {

// `weight` and `bias` [C] or undefined.
torch::Tensor norm_of(const torch::Tensor& input, const torch::Tensor& weight,
                      const torch::Tensor& bias) {
  auto sizes = input.sizes().vec();
  const auto of_items = [items = sizes[0]](const torch::Tensor& values) {
    return values.defined() && items > 1 ? values.repeat({items}) : values;
  };
  sizes[1] *= sizes[0];
  sizes[0] = 1;
  // As torch::instance_norm, but with a result that autograd does not take for a view: an in-place
  // activation on a view costs a copy of the gradient. The input must be contiguous: through
  // _unsafe_view, LibTorch 2.11 gives a channels-last one wrong gradients.
  const auto output = torch::batch_norm(
      input.contiguous().view(sizes), of_items(weight), of_items(bias),
      /*running_mean=*/{}, /*running_var=*/{},
      /*training=*/true, /*momentum=*/0.1, /*eps=*/1e-5, torch::globalContext().userEnabledCuDNN());
  return torch::_unsafe_view(output, input.sizes());
}

// The same from LibTorch's operators.
torch::Tensor composed(const torch::Tensor& input, const ops::AfterNorm& after) {
  auto output = norm_of(input, after.weight, after.bias);
  if (after.shortcut.defined()) {
    output += after.normalises_shortcut
                  ? norm_of(after.shortcut, after.shortcut_weight, after.shortcut_bias)
                  : after.shortcut;
  }
  if (after.slope == 0) {
    output.relu_();
  } else if (after.slope != 1) {
    torch::leaky_relu_(output, after.slope);
  }
  return after.residual.defined() ? output + after.residual : output;
}

}  // namespace

torch::Tensor instance_norm(torch::Tensor input, const ops::AfterNorm& after) {
  // Not wherever gradients are off: recomputing runs parts without them, and must get the same
  // bits. Nor under autocast, which leaves the types apart.
  const auto is_alike = [&input](const torch::Tensor& other) {
    return !other.defined() || other.scalar_type() == input.scalar_type();
  };
  const auto state = input.scalar_type() == torch::kFloat64 ? torch::kFloat64 : torch::kFloat32;
  const auto is_state = [state](const torch::Tensor& values) {
    return !values.defined() || values.scalar_type() == state;
  };
  if (!c10::InferenceMode::is_enabled() || !input.is_cpu() || !is_alike(after.shortcut) ||
      !is_alike(after.residual) || !is_state(after.weight) || !is_state(after.shortcut_weight)) {
    return composed(input, after);
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
