#pragma once

#include "segmamba/nn/encoder.h"
#include "segmamba/nn/mamba_layer.h"
#include "segmamba/nn/mlp_channel.h"
#include "segmamba/nn/norms.h"

namespace segmamba::nn {

// The encoder of the code's first release (ge-xing/SegMamba at 389405b; state-dict prefix
// `mamba_encoder`), LN being the channels-first LayerNorm:
//   stem:    x = LN(conv 7^3 x) (dense, stride 2); before later stages x = conv 2^3 (LN x) of
//            stride 2
//   stage i: x = Mamba(LayerNorm x), forward and reverse, without a residual
//   output:  mlp_i(LN x), ratio 4; the next stage gets x itself
class BidirectionalEncoderImpl : public Encoder {
 public:
  explicit BidirectionalEncoderImpl(const ModelConfig& config);
  torch::Tensor stage(std::int64_t i, const torch::Tensor& input) override;
  torch::Tensor output(std::int64_t i, const torch::Tensor& feature) override;

 private:
  std::vector<torch::nn::Sequential> downsample_layers_;
  std::vector<torch::nn::Sequential> stages_;
  std::vector<ChannelLayerNorm> norms_;
  std::vector<MlpChannel> mlps_;
};

}  // namespace segmamba::nn
