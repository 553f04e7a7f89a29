#pragma once

#include "segmamba/nn/encoder.h"
#include "segmamba/nn/gsc.h"
#include "segmamba/nn/mamba_layer.h"
#include "segmamba/nn/mlp_channel.h"

namespace segmamba::nn {

// The encoder of the published code (ge-xing/SegMamba at cff3597; state-dict prefix `vit`):
//   stem:    x = conv 7^3 (dense, stride 2); before later stages x = conv 2^3 (IN x), stride 2
//   stage i: x = MambaLayer(... MambaLayer(GSC x)), tri-orientated: forward, reverse, inter-slice
//   output:  mlp_i(IN x), ratio 2; the next stage gets x itself
class TomEncoderImpl : public Encoder {
 public:
  explicit TomEncoderImpl(const ModelConfig& config);
  torch::Tensor stage(std::int64_t i, const torch::Tensor& input) override;
  torch::Tensor output(std::int64_t i, const torch::Tensor& feature) override;

 private:
  std::vector<torch::nn::Sequential> downsample_layers_;
  std::vector<Gsc> gscs_;
  std::vector<torch::nn::Sequential> stages_;
  std::vector<MlpChannel> mlps_;
};

}  // namespace segmamba::nn
