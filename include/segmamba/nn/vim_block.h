#pragma once

#include "segmamba/nn/mamba.h"
#include "segmamba/nn/norms.h"

namespace segmamba::nn {

struct VimBlockOptions {
  std::int64_t dim;  // C
  std::int64_t state_size = 16;
  bool averages = true;  // if_divide_out of the original
};

// x + mixer(RMSNorm x), the mixer a Mamba of the directions forward and reverse (Vision Mamba,
// arXiv 2401.09417; hustvl/Vim at dd0358a, "bimamba v2"). Tokens [B, L, C] -> the same.
class VimBlockImpl : public torch::nn::Module {
 public:
  explicit VimBlockImpl(const VimBlockOptions& options);
  torch::Tensor forward(const torch::Tensor& tokens);
  // Divides the initial values of the mixer's last projection by sqrt(blocks), the number of blocks
  // of the network, as the original does.
  void scale_output(std::int64_t blocks);

  Mamba mixer{nullptr};
  RmsNorm norm{nullptr};
};
TORCH_MODULE(VimBlock);

// The body of the original's classifier without its class token:
//   norm_f(blocks(x + pos_embed)), pos_embed [1, L, C]. [B, L, C] -> the same.
class VimBlocksImpl : public torch::nn::Module {
 public:
  VimBlocksImpl(std::int64_t depth, std::int64_t length, const VimBlockOptions& options);
  torch::Tensor forward(const torch::Tensor& tokens);

 private:
  torch::Tensor pos_embed_;
  std::vector<VimBlock> layers_;
  RmsNorm norm_f_{nullptr};
};
TORCH_MODULE(VimBlocks);

}  // namespace segmamba::nn
