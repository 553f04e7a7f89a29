#include "segmamba/nn/vim_encoder.h"

#include <numeric>

#include "module_list.h"
#include "segmamba/nn/initial_values.h"
#include "segmamba/nn/norms.h"
#include "segmamba/nn/tokens.h"
#include "segmamba/nn/vim_block.h"

namespace segmamba::nn {

VimEncoderImpl::VimEncoderImpl(std::int64_t in_channels, const VimOptions& options)
    : Encoder(static_cast<std::int64_t>(options.feat_size.size())) {
  const auto& grid = options.pos_grid;
  pos_embed_ = register_parameter(
      "pos_embed", torch::empty({1, options.feat_size[0], grid[0], grid[1], grid[2]}));
  truncated_normal_(pos_embed_, 0.02);
  const auto blocks =
      std::accumulate(options.depths.begin(), options.depths.end(), std::int64_t{0});
  for (std::size_t i = 0; i < options.feat_size.size(); ++i) {
    const auto dim = options.feat_size[i];
    downsample_layers_.push_back(downsampling(in_channels, options.feat_size, i));
    torch::nn::Sequential stage;
    for (std::int64_t j = 0; j < options.depths[i]; ++j) {
      VimBlock block(VimBlockOptions{
          .dim = dim, .state_size = options.d_state, .averages = options.if_divide_out});
      block->scale_output(blocks);
      stage->push_back(block);
    }
    stages_.push_back(stage);
    mlps_.emplace_back(dim, 2 * dim);
  }
  register_module("downsample_layers", module_list(downsample_layers_));
  register_module("stages", module_list(stages_));
  register_module("mlps", module_list(mlps_));
}

torch::Tensor VimEncoderImpl::stage(std::int64_t i, const torch::Tensor& input) {
  auto feature = downsample_layers_[i]->forward(input);
  if (i == 0) {
    const auto positions = torch::upsample_trilinear3d(pos_embed_, feature.sizes().slice(2),
                                                       /*align_corners=*/false);
    feature = feature + positions.to(feature.scalar_type());
  }
  return tokens_to_volume(stages_[i]->forward(volume_to_tokens(feature)), feature);
}

torch::Tensor VimEncoderImpl::output(std::int64_t i, const torch::Tensor& feature) {
  return mlps_[i](instance_norm(feature));
}

}  // namespace segmamba::nn
