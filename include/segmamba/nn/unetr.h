#pragma once

#include "segmamba/nn/model.h"
#include "segmamba/nn/unetr_blocks.h"
#include "segmamba/nn/vit.h"

namespace segmamba::nn {

// UNETR (arXiv 2103.10504; Project-MONAI/MONAI at 7af4921, networks/nets/unetr.py),
// s = feature_size, t_i = output of block i of a vision transformer over patches of 16^3 voxels:
//   e_1 = basic(image), s channels
//   e_2 = project_up(t_3), e_3 = project_up(t_6), e_4 = project_up(t_9), to 1/2, 1/4, 1/8 of the
//         resolution and 2 s, 4 s, 8 s channels
//   d_4 = up(LN(t_11), e_4)
//   d_i = up(d_{i+1}, e_i), i = 3, 2, 1
//   logits = conv 1^3 d_1
// Sizes: model.img_size alone, as each patch has its own position. The parts that can be recomputed
// are embedding, block0 .. block11, encoder1 .. encoder4 and decoder5 .. decoder2.
class UnetrImpl : public SegmentationModel {
 public:
  // Throws Error naming the config key that does not fit.
  explicit UnetrImpl(const ModelConfig& config);
  static InputSizes input_sizes(const ModelConfig& config);
  std::vector<std::string> parts() const override;

 protected:
  Tensors compute(torch::Tensor input, bool deep) override;

 private:
  std::array<std::int64_t, 3> grid_;  // [D, H, W] in patches
  Vit vit_{nullptr};
  UnetrBasicBlock encoder1_{nullptr};
  std::vector<UnetrProjectionUpBlock> projections_;  // encoder2 .. encoder4
  std::vector<UnetrUpBlock> decoders_;               // decoder2 .. decoder5
  UnetrOutBlock out_{nullptr};
};
TORCH_MODULE(Unetr);

}  // namespace segmamba::nn
