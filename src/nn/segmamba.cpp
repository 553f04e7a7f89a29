#include "segmamba/nn/segmamba.h"

#include "segmamba/core/text.h"

namespace segmamba::nn {

InputSizes SegMambaImpl::input_sizes(const ModelConfig& config) {
  return u_shape_input_sizes(config.segmamba.dims.size());
}

SegMambaImpl::SegMambaImpl(const ModelConfig& config)
    : UShapedModel(
          config, input_sizes(config),
          {config.segmamba.encoder == "tom" ? "vit" : "mamba_encoder", make_encoder(config),
           u_shape_widths(config.segmamba.dims, config.segmamba.hidden_size)}) {
  const auto& options = config.segmamba;
  description_ = concat("SegMamba(encoder=", options.encoder, ", dims=[", join(options.dims, ", "),
                        "], hidden_size=", options.hidden_size, ")");
}

void SegMambaImpl::pretty_print(std::ostream& stream) const { stream << description_; }

}  // namespace segmamba::nn
