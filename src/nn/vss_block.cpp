#include "segmamba/nn/vss_block.h"

#include <cmath>

#include "segmamba/core/error.h"
#include "segmamba/core/text.h"
#include "segmamba/nn/initial_values.h"
#include "segmamba/nn/linear.h"
#include "segmamba/nn/tokens.h"
#include "segmamba/ops/mamba_inner.h"

namespace segmamba::nn {
namespace {

std::int64_t scaled(const char* key, double ratio, std::int64_t channels) {
  const auto size = static_cast<std::int64_t>(ratio * static_cast<double>(channels));
  if (size >= 1) return size;
  throw Error(concat(key, ": ", ratio, " of ", channels, " channels is less than one"));
}

}  // namespace

std::vector<ops::ScanOrder> cross_scan_orders(torch::IntArrayRef sizes) {
  const auto length = c10::multiply_integers(sizes);
  std::vector<ops::ScanOrder> orders = {ops::ScanOrder::forward(length)};
  std::int64_t slices = 1;  // of the leading axes together, which change fastest
  for (const auto size : sizes.slice(0, sizes.size() - 1)) {
    slices *= size;
    orders.push_back(ops::ScanOrder::interslice(length, slices));
  }
  for (std::size_t k = 0; k < sizes.size(); ++k) {
    auto reverse = orders[k];
    reverse.reversed = true;
    orders.push_back(reverse);
  }
  return orders;
}

CrossScanMixerImpl::CrossScanMixerImpl(const VssBlockOptions& options) : gate_(options.gate) {
  const auto inner = scaled("model.ssm_ratio", options.ssm_ratio, options.dim);
  const auto rank = (options.dim + 15) / 16, directions = 2 * options.axes,
             states = options.state_size;
  const auto projection = [](std::int64_t in, std::int64_t out) {
    return make_linear(in, out, /*bias=*/false);
  };
  in_proj = register_module("in_proj", projection(options.dim, gate_ ? 2 * inner : inner));
  if (options.axes == 2) {
    conv2d = register_module("conv2d", torch::nn::Conv2d(torch::nn::Conv2dOptions(inner, inner, 3)
                                                             .padding(1)
                                                             .groups(inner)
                                                             .bias(options.conv_bias)));
  } else {
    conv3d = register_module("conv3d", Convolution(torch::nn::Conv3dOptions(inner, inner, 3)
                                                       .padding(1)
                                                       .groups(inner)
                                                       .bias(options.conv_bias)));
  }
  x_proj = register_module("x_proj", projection(inner, directions * (rank + 2 * states)));
  dt_projs = register_module("dt_projs", projection(rank, directions * inner));
  out_norm = register_module("out_norm", LayerNorm(inner));
  out_proj = register_module("out_proj", projection(inner, options.dim));
  dt_projs_bias = register_parameter("dt_projs_bias", torch::empty({directions, inner}));
  A_logs = register_parameter("A_logs", torch::empty({directions * inner, states}));
  Ds = register_parameter("Ds", torch::empty({directions * inner}));
  reset_parameters();
}

void CrossScanMixerImpl::reset_parameters() {
  const torch::NoGradGuard no_grad;
  for (auto* projection : {&in_proj, &x_proj, &out_proj}) {
    truncated_normal_((*projection)->weight, 0.02);
  }
  const double bound = 1 / std::sqrt(static_cast<double>(dt_projs->weight.size(1)));
  dt_projs->weight.uniform_(-bound, bound);
  initial_delta_bias_(dt_projs_bias);
  A_logs.copy_(torch::arange(1, A_logs.size(1) + 1, A_logs.options()).log());
  Ds.fill_(1);
}

torch::Tensor CrossScanMixerImpl::forward(const torch::Tensor& tokens,
                                          const torch::Tensor& volume) {
  auto x = in_proj(tokens);
  torch::Tensor z;
  if (gate_) {
    const auto halves = x.chunk(2, -1);
    x = halves[0];
    z = halves[1];
  }
  x = tokens_to_volume(x, volume);
  x = torch::silu(conv3d.is_empty() ? conv2d(x) : conv3d(x));
  // Contiguous here, so that the scans keep this copy alone.
  x = volume_to_tokens(x).contiguous();
  const auto K = dt_projs_bias.size(0), inner = x.size(2), states = A_logs.size(1);
  const auto y =
      ops::cross_scan(x,
                      {x_proj->weight.view({K, -1, inner}), dt_projs->weight.view({K, inner, -1}),
                       -A_logs.view({K, inner, states}).exp(), Ds.view({K, inner}), dt_projs_bias},
                      cross_scan_orders(volume.sizes().slice(2)));
  const auto normed = out_norm(y);
  return out_proj(gate_ ? normed * torch::silu(z) : normed);
}

VssBlockImpl::VssBlockImpl(const VssBlockOptions& options) {
  norm_ = register_module("norm", LayerNorm(options.dim));
  op_ = register_module("op", CrossScanMixer(options));
  if (options.mlp_ratio == 0) return;
  norm2_ = register_module("norm2", LayerNorm(options.dim));
  const auto hidden = scaled("model.mlp_ratio", options.mlp_ratio, options.dim);
  mlp_ = register_module("mlp", Mlp(options.dim, hidden, kSwinMlpNames));
  for (auto* layer : {&mlp_->first, &mlp_->second}) {
    truncated_normal_((*layer)->weight, 0.02);
    torch::nn::init::zeros_((*layer)->bias);
  }
}

torch::Tensor VssBlockImpl::forward(const torch::Tensor& input) {
  auto tokens = volume_to_tokens(input);
  tokens = tokens + op_(norm_(tokens), input);
  if (!mlp_.is_empty()) tokens = tokens + mlp_(norm2_(tokens));
  return tokens_to_volume(tokens, input);
}

}  // namespace segmamba::nn
