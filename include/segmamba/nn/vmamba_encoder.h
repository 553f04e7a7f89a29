#pragma once

#include "segmamba/nn/encoder.h"
#include "segmamba/nn/mlp_channel.h"

namespace segmamba::nn {

// VMamba's blocks (vss_block.h) over volumes (state-dict prefix `vit`), IN the instance norm:
//   stem:    x = conv 7^3 x, stride 2; before later stages x = conv 2^3 (IN x), stride 2
//   stage i: depths[i] blocks
//   output:  mlp_i(IN x), ratio 2; the next stage gets x itself
class VMambaEncoderImpl : public Encoder {
 public:
  VMambaEncoderImpl(std::int64_t in_channels, const VMambaOptions& options);
  torch::Tensor stage(std::int64_t i, const torch::Tensor& input) override;
  torch::Tensor output(std::int64_t i, const torch::Tensor& feature) override;

 private:
  std::vector<torch::nn::Sequential> downsample_layers_, stages_;
  std::vector<MlpChannel> mlps_;
};

}  // namespace segmamba::nn
