#pragma once

#include "segmamba/nn/u_shape.h"

namespace segmamba::nn {

// Vision Mamba (arXiv 2401.09417), which classifies images, as an encoder of volumes in the U-shape
// of u_shape.h: an adaptation for comparison with SegMamba, not a published network.
class VimImpl : public UShapedModel {
 public:
  // Throws Error naming the config key that does not fit.
  explicit VimImpl(const ModelConfig& config);
  static InputSizes input_sizes(const ModelConfig& config);
};
TORCH_MODULE(Vim);

}  // namespace segmamba::nn
