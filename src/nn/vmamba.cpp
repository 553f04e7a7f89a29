#include "segmamba/nn/vmamba.h"

#include "segmamba/nn/vmamba_encoder.h"

namespace segmamba::nn {

InputSizes VMambaImpl::input_sizes(const ModelConfig& config) {
  return u_shape_input_sizes(config.vmamba.feat_size.size());
}

VMambaImpl::VMambaImpl(const ModelConfig& config)
    : UShapedModel(config, input_sizes(config),
                   {"vit", std::make_shared<VMambaEncoderImpl>(config.in_channels, config.vmamba),
                    u_shape_widths(config.vmamba.feat_size, config.vmamba.hidden_size)}) {}

}  // namespace segmamba::nn
