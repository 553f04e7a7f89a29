#include "segmamba/nn/uxnet.h"

#include "segmamba/nn/uxnet_encoder.h"

namespace segmamba::nn {

InputSizes UxNetImpl::input_sizes(const ModelConfig& config) {
  return u_shape_input_sizes(config.uxnet.feat_size.size());
}

UxNetImpl::UxNetImpl(const ModelConfig& config)
    : UShapedModel(config, input_sizes(config),
                   {"uxnet_3d",
                    std::make_shared<UxNetEncoderImpl>(config.in_channels, config.uxnet),
                    u_shape_widths(config.uxnet.feat_size, config.uxnet.hidden_size),
                    {.residual = config.uxnet.res_block, .affine = config.uxnet.norm_affine}}) {}

}  // namespace segmamba::nn
