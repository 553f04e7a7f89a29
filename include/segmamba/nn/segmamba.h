#pragma once

#include "segmamba/nn/encoder.h"
#include "segmamba/nn/model.h"
#include "segmamba/nn/unetr_blocks.h"

namespace segmamba::nn {

// SegMamba (arXiv 2401.13560; ge-xing/SegMamba): a Mamba encoder and a convolutional decoder with
// skips, written here for n stages of f = dims channels and h = hidden_size:
//   e_0 = encoder1(x) at full resolution; outs = encoder(x); e_i = encoder{i+1}(outs[i-1]) with
//   f[i] channels for i < n and h for i = n; d_n = e_n
//   d_{i-1} = decoder{i+1}(d_i, e_{i-1}) for i = n .. 1; logits = out(decoder1(d_0))
// Any number of stages >= 1; the published ones have four. Sizes: multiples of 2^n.
class SegMambaImpl : public SegmentationModel {
 public:
  // Throws Error naming the config key that does not fit.
  explicit SegMambaImpl(const ModelConfig& config);
  // Throws Error where the input's channels or sizes do not fit.
  torch::Tensor forward(const torch::Tensor& input) override;
  std::int64_t size_multiple() const override;
  void pretty_print(std::ostream& stream) const override;

  std::shared_ptr<Encoder> encoder;
  std::vector<UnetrBasicBlock> encoder_blocks;  // encoder1 .. encoder{n+1}
  std::vector<UnetrUpBlock> decoder_blocks;     // decoder2 .. decoder{n+1}
  UnetrBasicBlock decoder1{nullptr};
  UnetrOutBlock out{nullptr};

 private:
  void check_input(const torch::Tensor& input) const;
  ModelConfig config_;
};
TORCH_MODULE(SegMamba);

}  // namespace segmamba::nn
