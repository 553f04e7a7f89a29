#include "segmamba/nn/vim.h"

#include "segmamba/nn/vim_encoder.h"

namespace segmamba::nn {

InputSizes VimImpl::input_sizes(const ModelConfig& config) {
  return u_shape_input_sizes(config.vim.feat_size.size());
}

VimImpl::VimImpl(const ModelConfig& config)
    : UShapedModel(config, input_sizes(config),
                   {"vit", std::make_shared<VimEncoderImpl>(config.in_channels, config.vim),
                    u_shape_widths(config.vim.feat_size, config.vim.hidden_size)}) {}

}  // namespace segmamba::nn
