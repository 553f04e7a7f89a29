#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "segmamba/nn/convolution.h"
#include "segmamba/nn/model.h"

namespace segmamba::nn {

class MedNextBlockImpl;

// What `size` stands for: numbers of the nine levels, down and up again.
struct MedNextPreset {
  std::array<std::int64_t, 9> exp_r, block_counts;
};
const MedNextPreset& mednext_preset(const std::string& size);

// MedNeXt (arXiv 2303.09975; MIC-DKFZ/MedNeXt at 0b78ed8, mednextv1), c = n_channels, r = exp_r:
//   block:  x + conv3(GRN(gelu(conv2(norm(conv1 x))))), conv1 depth-wise k^3 (k = kernel_size; of
//           the bottleneck and the decoder dec_kernel_size), conv2 and conv3 1^3 to r times the
//           channels and back; GRN where `grn` says so
//   down_i: a block whose conv1 has stride 2 and whose conv3 gives twice the channels,
//           + res_conv x, 1^3 of stride 2, in place of x
//   up_i:   a block whose conv1 has stride 2, transposed, and whose conv3 gives half the channels,
//           + res_conv x, transposed likewise, in place of x; n voxels a side become 2n - 1, and
//           before them the first of 2n is 0
//
//   e_0 = enc_block_0(stem x)
//   e_i = enc_block_i(down_{i-1} e_{i-1}), i = 1 .. 3
//   d_4 = bottleneck(down_3 e_3)
//   d_i = dec_block_i(up_i d_{i+1} + e_i), i = 3 .. 0
//   logits = out_0 d_0; with deep supervision out_i d_i, i = 0 .. 4
//
// norm is an affine instance norm (norm_type group) or a layer norm over channels (layer). Sizes:
// multiples of 16. Each block, down_i and up_i is a part that can be recomputed.
class MedNextImpl : public SegmentationModel {
 public:
  // Throws Error naming the config key that does not fit.
  explicit MedNextImpl(const ModelConfig& config);
  static InputSizes input_sizes(const ModelConfig& config);
  std::vector<std::string> parts() const override;
  std::size_t deep_output_count() const override { return heads_.size(); }
  bool trains_coarsest_output() const override { return true; }

 protected:
  Tensors compute(torch::Tensor input, bool deep) override;

 private:
  using Block = std::shared_ptr<MedNextBlockImpl>;
  using Blocks = std::vector<Block>;

  torch::Tensor run_blocks(const std::string& name, const Blocks& blocks,
                           torch::Tensor input) const;

  Convolution stem_{nullptr};
  std::vector<Blocks> levels_;                // enc_block_0..3, bottleneck, dec_block_3..0
  Blocks downs_, ups_;                        // down_0..3, up_0..3
  std::vector<TransposedConvolution> heads_;  // out_0, and out_1..4 with deep supervision
};
TORCH_MODULE(MedNext);

}  // namespace segmamba::nn
