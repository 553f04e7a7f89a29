#include "segmamba/nn/tom_encoder.h"

#include "module_list.h"
#include "segmamba/nn/norms.h"

namespace segmamba::nn {

TomEncoderImpl::TomEncoderImpl(const ModelConfig& config)
    : Encoder(static_cast<std::int64_t>(config.segmamba.dims.size())) {
  for (std::size_t i = 0; i < config.segmamba.dims.size(); ++i) {
    const auto dim = config.segmamba.dims[i];
    downsample_layers_.push_back(downsampling(config.in_channels, config.segmamba.dims, i));
    gscs_.emplace_back(dim);
    torch::nn::Sequential stage;
    for (std::int64_t j = 0; j < config.segmamba.depths[i]; ++j) {
      stage->push_back(MambaLayer(
          MambaLayerOptions{.mamba = {.dim = dim,
                                      .directions = {Direction::kForward, Direction::kReverse,
                                                     Direction::kInterSlice}}}));
    }
    stages_.push_back(stage);
    mlps_.emplace_back(dim, 2 * dim);
  }
  register_module("downsample_layers", module_list(downsample_layers_));
  register_module("gscs", module_list(gscs_));
  register_module("stages", module_list(stages_));
  register_module("mlps", module_list(mlps_));
}

torch::Tensor TomEncoderImpl::stage(std::int64_t i, const torch::Tensor& input) {
  return stages_[i]->forward(gscs_[i](downsample_layers_[i]->forward(input)));
}

torch::Tensor TomEncoderImpl::output(std::int64_t i, const torch::Tensor& feature) {
  return mlps_[i](instance_norm(feature));
}

}  // namespace segmamba::nn
