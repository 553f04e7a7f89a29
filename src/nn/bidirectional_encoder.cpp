#include "segmamba/nn/bidirectional_encoder.h"

#include "module_list.h"

namespace segmamba::nn {

BidirectionalEncoderImpl::BidirectionalEncoderImpl(const ModelConfig& config)
    : Encoder(static_cast<std::int64_t>(config.segmamba.dims.size())) {
  for (std::size_t i = 0; i < config.segmamba.dims.size(); ++i) {
    const auto dim = config.segmamba.dims[i];
    downsample_layers_.push_back(
        layer_norm_downsampling(config.in_channels, config.segmamba.dims, i));
    torch::nn::Sequential stage;
    for (std::int64_t j = 0; j < config.segmamba.depths[i]; ++j) {
      stage->push_back(MambaLayer(MambaLayerOptions{
          .mamba = {.dim = dim, .directions = {Direction::kForward, Direction::kReverse}},
          .residual = false}));
    }
    stages_.push_back(stage);
    norms_.push_back(register_module("norm" + std::to_string(i), ChannelLayerNorm(dim)));
    mlps_.emplace_back(dim, 4 * dim);
  }
  register_module("downsample_layers", module_list(downsample_layers_));
  register_module("stages", module_list(stages_));
  register_module("mlps", module_list(mlps_));
}

torch::Tensor BidirectionalEncoderImpl::stage(std::int64_t i, const torch::Tensor& input) {
  return stages_[i]->forward(downsample_layers_[i]->forward(input));
}

torch::Tensor BidirectionalEncoderImpl::output(std::int64_t i, const torch::Tensor& feature) {
  return mlps_[i](norms_[i](feature));
}

}  // namespace segmamba::nn
