#pragma once

#include "segmamba/nn/encoder.h"
#include "segmamba/nn/model.h"
#include "segmamba/nn/unetr_blocks.h"

namespace segmamba::nn {

// SegMamba (arXiv 2401.13560; ge-xing/SegMamba): a Mamba encoder and a convolutional decoder with
// skips, written here for n stages of f = dims channels and h = hidden_size:
//   s_0 = x; s_i = encoder stage i of s_{i-1}
//   e_0 = encoder1(x) at full resolution; e_i = encoder{i+1}(encoder output i of s_i) with f[i]
//   channels for i < n and h for i = n; d_n = e_n
//   d_{i-1} = decoder{i+1}(d_i, e_{i-1}) for i = n .. 1; logits = out(decoder1(d_0))
// With deep supervision also deep_outs.{i-1}(d_i) at 1/2^i of the resolution for i = 1 .. n-1: an
// output a decoder, as in nnU-Net. These heads are used in training alone.
// Any number of stages >= 1; the published ones have four. Sizes: multiples of 2^n. The parts that
// can be recomputed are stage1 .. stage{n} and the blocks, an encoder's output with its block.
class SegMambaImpl : public SegmentationModel {
 public:
  // Throws Error naming the config key that does not fit.
  explicit SegMambaImpl(const ModelConfig& config);
  static InputSizes input_sizes(const ModelConfig& config);
  std::size_t deep_output_count() const override { return 1 + deep_outs.size(); }
  std::vector<std::string> parts() const override;
  void pretty_print(std::ostream& stream) const override;

  std::shared_ptr<Encoder> encoder;
  std::vector<UnetrBasicBlock> encoder_blocks;  // encoder1 .. encoder{n+1}
  std::vector<UnetrUpBlock> decoder_blocks;     // decoder2 .. decoder{n+1}
  UnetrBasicBlock decoder1{nullptr};
  UnetrOutBlock out{nullptr};
  std::vector<UnetrOutBlock> deep_outs;

 protected:
  Tensors compute(torch::Tensor input, bool deep) override;

 private:
  std::string description_;
};
TORCH_MODULE(SegMamba);

}  // namespace segmamba::nn
