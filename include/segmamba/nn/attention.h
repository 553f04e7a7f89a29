#pragma once
// Attention of many heads, through LibTorch's scaled_dot_product_attention.

#include <torch/torch.h>

#include <cstdint>
#include <optional>

namespace segmamba::nn {

// softmax(q k^T / sqrt(d) + bias) v in every head of d = C / heads channels. `qkv` [B, N, 3 C]
// holds queries, keys and values one after another, each head by head; `bias`, where given, can be
// broadcast to [B, heads, N, N] and is converted to qkv's type. `dropout`: probability with which a
// weight is left out. `trains_bias`: the bias is trained, though this call may be one without
// gradients, as when parts are recomputed; it gets the same bits as one with them.
// [B, N, 3 C] -> [B, N, C].
torch::Tensor self_attention(const torch::Tensor& qkv, std::int64_t heads, double dropout = 0,
                             const std::optional<torch::Tensor>& bias = std::nullopt,
                             bool trains_bias = false);

// The same of queries [B, N, C] with keys and values kv [B, M, 2 C], bias [B, heads, N, M].
torch::Tensor cross_attention(const torch::Tensor& queries, const torch::Tensor& kv,
                              std::int64_t heads, double dropout = 0,
                              const std::optional<torch::Tensor>& bias = std::nullopt,
                              bool trains_bias = false);

}  // namespace segmamba::nn
