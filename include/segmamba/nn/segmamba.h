#pragma once

#include "segmamba/nn/u_shape.h"

namespace segmamba::nn {

// SegMamba (arXiv 2401.13560; ge-xing/SegMamba): a Mamba encoder in the U-shape of u_shape.h. Any
// number of stages >= 1; the published ones have four.
class SegMambaImpl : public UShapedModel {
 public:
  // Throws Error naming the config key that does not fit.
  explicit SegMambaImpl(const ModelConfig& config);
  static InputSizes input_sizes(const ModelConfig& config);
  void pretty_print(std::ostream& stream) const override;

 private:
  std::string description_;
};
TORCH_MODULE(SegMamba);

}  // namespace segmamba::nn
