#pragma once

#include "segmamba/nn/encoder.h"
#include "segmamba/nn/mlp_channel.h"

namespace segmamba::nn {

// Vision Mamba's blocks (vim_block.h) over voxels (state-dict prefix `vit`), IN the instance norm:
//   stem:    x = conv 7^3 x, stride 2, plus pos_embed [1, C, pos_grid], resized trilinearly to the
//            features; before later stages x = conv 2^3 (IN x), stride 2
//   stage i: depths[i] blocks over the voxels in memory order, W fastest
//   output:  mlp_i(IN x), ratio 2; the next stage gets x itself
class VimEncoderImpl : public Encoder {
 public:
  VimEncoderImpl(std::int64_t in_channels, const VimOptions& options);
  torch::Tensor stage(std::int64_t i, const torch::Tensor& input) override;
  torch::Tensor output(std::int64_t i, const torch::Tensor& feature) override;

 private:
  torch::Tensor pos_embed_;
  std::vector<torch::nn::Sequential> downsample_layers_, stages_;
  std::vector<MlpChannel> mlps_;
};

}  // namespace segmamba::nn
