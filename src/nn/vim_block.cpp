#include "segmamba/nn/vim_block.h"

#include <cmath>

#include "module_list.h"
#include "segmamba/nn/initial_values.h"

namespace segmamba::nn {

VimBlockImpl::VimBlockImpl(const VimBlockOptions& options) {
  mixer = register_module(
      "mixer", Mamba(MambaOptions{.dim = options.dim,
                                  .directions = {Direction::kForward, Direction::kReverse},
                                  .state_size = options.state_size,
                                  .averages = options.averages}));
  norm = register_module("norm", RmsNorm(options.dim));
}

torch::Tensor VimBlockImpl::forward(const torch::Tensor& tokens) {
  return tokens + mixer(norm(tokens), /*slices=*/1);
}

void VimBlockImpl::scale_output(std::int64_t blocks) {
  const torch::NoGradGuard no_grad;
  mixer->out_proj->weight.div_(std::sqrt(static_cast<double>(blocks)));
}

VimBlocksImpl::VimBlocksImpl(std::int64_t depth, std::int64_t length,
                             const VimBlockOptions& options) {
  pos_embed_ = register_parameter("pos_embed", torch::empty({1, length, options.dim}));
  truncated_normal_(pos_embed_, 0.02);
  for (std::int64_t i = 0; i < depth; ++i) {
    layers_.emplace_back(options);
    layers_.back()->scale_output(depth);
  }
  register_module("layers", module_list(layers_));
  norm_f_ = register_module("norm_f", RmsNorm(options.dim));
}

torch::Tensor VimBlocksImpl::forward(const torch::Tensor& tokens) {
  auto features = tokens + pos_embed_.to(tokens.scalar_type());
  for (auto& layer : layers_) features = layer(features);
  return norm_f_(features);
}

}  // namespace segmamba::nn
