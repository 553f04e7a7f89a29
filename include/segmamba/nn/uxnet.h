#pragma once

#include "segmamba/nn/u_shape.h"

namespace segmamba::nn {

// 3D UX-Net (arXiv 2209.15076; MASILab/3DUX-Net at 14ea46b, class UXNET): large-kernel depth-wise
// convolutions in the U-shape of u_shape.h.
class UxNetImpl : public UShapedModel {
 public:
  // Throws Error naming the config key that does not fit.
  explicit UxNetImpl(const ModelConfig& config);
  static InputSizes input_sizes(const ModelConfig& config);
};
TORCH_MODULE(UxNet);

}  // namespace segmamba::nn
