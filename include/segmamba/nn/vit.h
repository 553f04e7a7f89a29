#pragma once
// The vision transformer of UNETR (arXiv 2010.11929; Project-MONAI/MONAI at 7af4921,
// networks/nets/vit.py and networks/blocks/{patchembedding,selfattention,transformerblock}.py).

#include <torch/torch.h>

#include <array>
#include <cstdint>
#include <vector>

#include "segmamba/nn/convolution.h"
#include "segmamba/nn/mlp.h"
#include "segmamba/nn/norms.h"

namespace segmamba::nn {

struct VitOptions {
  std::int64_t in_channels = 4;
  std::array<std::int64_t, 3> grid = {8, 8, 8};  // [D, H, W] in patches of 16^3 voxels
  std::int64_t hidden_size = 768;
  std::int64_t mlp_dim = 3072;
  std::int64_t num_heads = 12;
  // Patches are cut by a convolution; as a perceptron, each is flattened, channels fastest, and
  // multiplied by a matrix.
  bool perceptron = false;
  bool qkv_bias = false;
  double dropout = 0;
};

// x' = x + out_proj(attention(qkv(LN x))); out = x' + MLP(LN x'), over tokens [B, N, hidden_size].
// `norm_cross_attn` is in the original's state dict and never used.
class VitBlockImpl : public torch::nn::Module {
 public:
  explicit VitBlockImpl(const VitOptions& options);
  torch::Tensor forward(const torch::Tensor& tokens);

 private:
  LayerNorm norm1_{nullptr}, norm2_{nullptr};
  torch::nn::Linear qkv_{nullptr}, out_proj_{nullptr};
  Mlp mlp_{nullptr};
  std::int64_t heads_;
  double dropout_;
};
TORCH_MODULE(VitBlock);

// Twelve blocks over the patches of an image; its parts are called one by one.
// Older files hold more: patch_embedding.cls_token and blocks.*.cross_attn.* (to_q, to_k, to_v,
// out_proj), none of which the original reads.
class VitImpl : public torch::nn::Module {
 public:
  static constexpr std::int64_t kPatch = 16;
  static constexpr std::size_t kBlocks = 12;

  explicit VitImpl(const VitOptions& options);
  // [B, C, 16 D, 16 H, 16 W] -> [B, D * H * W, hidden_size], patches with their positions.
  torch::Tensor embed(const torch::Tensor& image);
  torch::Tensor block(std::size_t i, const torch::Tensor& tokens) { return blocks_[i](tokens); }
  // After the last block.
  torch::Tensor last_norm(const torch::Tensor& tokens) { return norm_(tokens); }

 private:
  Convolution convolution_{nullptr};  // or
  torch::nn::Linear perceptron_{nullptr};
  torch::Tensor position_embeddings_;  // [1, N, hidden_size]
  std::vector<VitBlock> blocks_;
  LayerNorm norm_{nullptr};
  double dropout_;
};
TORCH_MODULE(Vit);

}  // namespace segmamba::nn
