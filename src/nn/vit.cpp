#include "segmamba/nn/vit.h"

#include "module_list.h"
#include "segmamba/nn/attention.h"
#include "segmamba/nn/initial_values.h"
#include "segmamba/nn/linear.h"
#include "segmamba/nn/tokens.h"

namespace segmamba::nn {
namespace {

constexpr auto kPatch = VitImpl::kPatch;

// [B, C, 16 D, 16 H, 16 W] -> [B, D * H * W, 16^3 * C].
torch::Tensor flat_patches(const torch::Tensor& image) {
  return image.unflatten(4, {-1, kPatch})
      .unflatten(3, {-1, kPatch})
      .unflatten(2, {-1, kPatch})
      .permute({0, 2, 4, 6, 3, 5, 7, 1})
      .flatten(4)
      .flatten(1, 3);
}

}  // namespace

VitBlockImpl::VitBlockImpl(const VitOptions& options)
    : heads_(options.num_heads), dropout_(options.dropout) {
  const auto channels = options.hidden_size;
  mlp_ = register_module("mlp", Mlp(channels, options.mlp_dim, kMonaiMlpNames, dropout_));
  norm1_ = register_module("norm1", LayerNorm(channels));
  auto attention = std::make_shared<torch::nn::Module>("attention");
  out_proj_ = attention->register_module("out_proj", make_linear(channels, channels));
  qkv_ = attention->register_module("qkv", make_linear(channels, 3 * channels, options.qkv_bias));
  register_module("attn", attention);
  norm2_ = register_module("norm2", LayerNorm(channels));
  LayerNorm unused(channels);
  for (auto& parameter : unused->parameters()) parameter.set_requires_grad(false);
  register_module("norm_cross_attn", unused);
}

torch::Tensor VitBlockImpl::forward(const torch::Tensor& tokens) {
  const auto dropout = is_training() ? dropout_ : 0;
  const auto attended = self_attention(linear(qkv_, norm1_(tokens)), heads_, dropout);
  const auto mixed = tokens + torch::dropout(linear(out_proj_, attended), dropout_, is_training());
  return mixed + mlp_(norm2_(mixed));
}

VitImpl::VitImpl(const VitOptions& options) : dropout_(options.dropout) {
  auto embedding = std::make_shared<torch::nn::Module>("patch_embedding");
  const auto patches = options.grid[0] * options.grid[1] * options.grid[2];
  position_embeddings_ = embedding->register_parameter(
      "position_embeddings", torch::empty({1, patches, options.hidden_size}));
  truncated_normal_(position_embeddings_, 0.02);
  if (options.perceptron) {
    perceptron_ = make_linear(kPatch * kPatch * kPatch * options.in_channels, options.hidden_size);
    truncated_normal_(perceptron_->weight, 0.02);
    torch::nn::init::zeros_(perceptron_->bias);
    // The original cuts patches in a module of its own before it.
    embedding->register_module("patch_embeddings",
                               torch::nn::Sequential(torch::nn::Identity(), perceptron_));
  } else {
    convolution_ = embedding->register_module(
        "patch_embeddings",
        Convolution(torch::nn::Conv3dOptions(options.in_channels, options.hidden_size, kPatch)
                        .stride(kPatch)));
  }
  register_module("patch_embedding", embedding);
  for (std::size_t i = 0; i < kBlocks; ++i) blocks_.emplace_back(options);
  register_module("blocks", module_list(blocks_));
  norm_ = register_module("norm", LayerNorm(options.hidden_size));
}

torch::Tensor VitImpl::embed(const torch::Tensor& image) {
  const auto patches = perceptron_.is_empty() ? volume_to_tokens(convolution_(image))
                                              : linear(perceptron_, flat_patches(image));
  return torch::dropout(patches + position_embeddings_.to(patches.scalar_type()), dropout_,
                        is_training());
}

}  // namespace segmamba::nn
