#pragma once

#include "segmamba/nn/convolution.h"
#include "segmamba/nn/encoder.h"
#include "segmamba/nn/norms.h"

namespace segmamba::nn {

// x + gamma * pwconv2(GELU(pwconv1(LN(dwconv x)))), LN over channels with eps 1e-6. dwconv: 7^3
// taps a channel; pwconv1 and pwconv2: 1^3 taps with as many groups as channels, so that each
// channel becomes four and these become one again, apart from all others. gamma [C]: 1e-6 at first.
// In training the branch is left out with probability drop_path. [B, C, D, H, W] -> the same.
class UxBlockImpl : public torch::nn::Module {
 public:
  UxBlockImpl(std::int64_t channels, double drop_path);
  torch::Tensor forward(const torch::Tensor& input);

  Convolution dwconv{nullptr}, pwconv1{nullptr}, pwconv2{nullptr};
  ChannelLayerNorm norm{nullptr};
  torch::Tensor gamma;

 private:
  double drop_path_;
};
TORCH_MODULE(UxBlock);

// The encoder of 3D UX-Net (state-dict prefix `uxnet_3d`), LN over channels:
//   stem:    x = LN(conv 7^3 x), stride 2; before later stages x = conv 2^3 (LN x), stride 2
//   stage i: depths[i] blocks
//   output:  LN x; the next stage gets x itself
class UxNetEncoderImpl : public Encoder {
 public:
  UxNetEncoderImpl(std::int64_t in_channels, const UxNetOptions& options);
  torch::Tensor stage(std::int64_t i, const torch::Tensor& input) override;
  torch::Tensor output(std::int64_t i, const torch::Tensor& feature) override;

 private:
  std::vector<torch::nn::Sequential> downsample_layers_, stages_;
  std::vector<ChannelLayerNorm> norms_;
};

}  // namespace segmamba::nn
