#pragma once

#include "segmamba/nn/nnunet.h"

namespace segmamba::nn {

// U-Mamba (arXiv 2401.04722; bowang-lab/U-Mamba at 28459e3, UMambaBot_3d and UMambaEnc_3d):
//   first block: lrelu(norm2(conv2 lrelu(norm1(conv1 x))) + conv3 x), conv1 and conv3 (1^3, without
//                norm) with the stride
//   stem, stage: a first block, then ResidualUnits, in encoder and decoder; in the lower half of
//                the encoder and the upper half of the decoder, the first block alone
//   umamba_bot:  Mamba(LayerNorm(x)) after the last stage, instead of x
//   umamba_enc:  the same after every stage
//   up:          nearest voxels, then a 1^3 convolution
// Where a stage of umamba_enc has no more voxels than channels, its Mamba scans along the channels,
// so that the network is for inputs of one size. Parts: stem, stage{s}, mamba{s}.
class UMambaImpl : public UnetImpl {
 public:
  // Throws Error naming the config key that does not fit.
  explicit UMambaImpl(const ModelConfig& config);
  static InputSizes input_sizes(const ModelConfig& config);
};
TORCH_MODULE(UMamba);

}  // namespace segmamba::nn
