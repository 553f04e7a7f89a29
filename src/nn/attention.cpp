#include "segmamba/nn/attention.h"

namespace segmamba::nn {
namespace {

// [B, N, heads * d] -> [B, heads, N, d].
torch::Tensor split_heads(const torch::Tensor& tokens, std::int64_t heads) {
  return tokens.unflatten(2, {heads, tokens.size(2) / heads}).transpose(1, 2);
}

torch::Tensor attend(const torch::Tensor& queries, const torch::Tensor& keys,
                     const torch::Tensor& values, std::int64_t heads, double dropout,
                     const std::optional<torch::Tensor>& bias, bool trains_bias) {
  // Under autocast, queries may come from a norm and keys from a product.
  const auto type = values.scalar_type();
  const auto q = split_heads(queries.to(type), heads);
  std::optional<torch::Tensor> mask;
  if (bias) mask = bias->to(type);
  const auto k = split_heads(keys, heads), v = split_heads(values, heads);
  // What LibTorch itself takes on the CPU for a bias with gradients: its fused kernel has none.
  const bool composes = trains_bias && q.is_cpu();
  const auto attended =
      composes ? std::get<0>(at::_scaled_dot_product_attention_math(q, k, v, mask, dropout))
               : torch::scaled_dot_product_attention(q, k, v, mask, dropout);
  return attended.transpose(1, 2).flatten(2);
}

}  // namespace

torch::Tensor self_attention(const torch::Tensor& qkv, std::int64_t heads, double dropout,
                             const std::optional<torch::Tensor>& bias, bool trains_bias) {
  const auto parts = qkv.chunk(3, 2);
  return attend(parts[0], parts[1], parts[2], heads, dropout, bias, trains_bias);
}

torch::Tensor cross_attention(const torch::Tensor& queries, const torch::Tensor& kv,
                              std::int64_t heads, double dropout,
                              const std::optional<torch::Tensor>& bias, bool trains_bias) {
  const auto parts = kv.chunk(2, 2);
  return attend(queries, parts[0], parts[1], heads, dropout, bias, trains_bias);
}

}  // namespace segmamba::nn
