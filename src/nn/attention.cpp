#include "segmamba/nn/attention.h"

namespace segmamba::nn {
namespace {

// [B, N, heads * d] -> [B, heads, N, d].
torch::Tensor split_heads(const torch::Tensor& tokens, std::int64_t heads) {
  return tokens.unflatten(2, {heads, tokens.size(2) / heads}).transpose(1, 2);
}

torch::Tensor attend(const torch::Tensor& queries, const torch::Tensor& keys,
                     const torch::Tensor& values, std::int64_t heads, double dropout,
                     const std::optional<torch::Tensor>& bias) {
  // Under autocast, queries may come from a norm and keys from a product.
  const auto type = values.scalar_type();
  const auto q = split_heads(queries.to(type), heads);
  std::optional<torch::Tensor> mask;
  if (bias) mask = bias->to(type);
  return torch::scaled_dot_product_attention(q, split_heads(keys, heads),
                                             split_heads(values, heads), mask, dropout)
      .transpose(1, 2)
      .flatten(2);
}

}  // namespace

torch::Tensor self_attention(const torch::Tensor& qkv, std::int64_t heads, double dropout,
                             const std::optional<torch::Tensor>& bias) {
  const auto parts = qkv.chunk(3, 2);
  return attend(parts[0], parts[1], parts[2], heads, dropout, bias);
}

torch::Tensor cross_attention(const torch::Tensor& queries, const torch::Tensor& kv,
                              std::int64_t heads, double dropout,
                              const std::optional<torch::Tensor>& bias) {
  const auto parts = kv.chunk(2, 2);
  return attend(queries, parts[0], parts[1], heads, dropout, bias);
}

}  // namespace segmamba::nn
