#include "segmamba/nn/mamba_layer.h"

namespace segmamba::nn {

torch::Tensor volume_to_tokens(const torch::Tensor& volume) {
  return volume.flatten(2).transpose(1, 2);
}

torch::Tensor tokens_to_volume(const torch::Tensor& tokens, const torch::Tensor& volume) {
  return tokens.transpose(1, 2)
      .unflatten(2, volume.sizes().slice(2))
      .contiguous(volume.suggest_memory_format());
}

MambaLayerImpl::MambaLayerImpl(const MambaLayerOptions& options) : residual_(options.residual) {
  norm = register_module("norm", LayerNorm(options.mamba.dim));
  mamba = register_module("mamba", Mamba(options.mamba));
}

torch::Tensor MambaLayerImpl::forward(const torch::Tensor& input) {
  const auto tokens = mamba(norm(volume_to_tokens(input)), /*slices=*/input.size(2));
  const auto output = tokens_to_volume(tokens, input);
  return residual_ ? output + input : output;
}

}  // namespace segmamba::nn
