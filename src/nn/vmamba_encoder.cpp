#include "segmamba/nn/vmamba_encoder.h"

#include "module_list.h"
#include "segmamba/nn/norms.h"
#include "segmamba/nn/vss_block.h"

namespace segmamba::nn {

VMambaEncoderImpl::VMambaEncoderImpl(std::int64_t in_channels, const VMambaOptions& options)
    : Encoder(static_cast<std::int64_t>(options.feat_size.size())) {
  for (std::size_t i = 0; i < options.feat_size.size(); ++i) {
    const auto dim = options.feat_size[i];
    downsample_layers_.push_back(downsampling(in_channels, options.feat_size, i));
    torch::nn::Sequential stage;
    for (std::int64_t j = 0; j < options.depths[i]; ++j) {
      stage->push_back(VssBlock(VssBlockOptions{.dim = dim,
                                                .state_size = options.d_state,
                                                .ssm_ratio = options.ssm_ratio,
                                                .mlp_ratio = options.mlp_ratio,
                                                .conv_bias = options.conv_bias}));
    }
    stages_.push_back(stage);
    mlps_.emplace_back(dim, 2 * dim);
  }
  register_module("downsample_layers", module_list(downsample_layers_));
  register_module("stages", module_list(stages_));
  register_module("mlps", module_list(mlps_));
}

torch::Tensor VMambaEncoderImpl::stage(std::int64_t i, const torch::Tensor& input) {
  return stages_[i]->forward(downsample_layers_[i]->forward(input));
}

torch::Tensor VMambaEncoderImpl::output(std::int64_t i, const torch::Tensor& feature) {
  return mlps_[i](instance_norm(feature));
}

}  // namespace segmamba::nn
