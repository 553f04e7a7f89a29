#include "segmamba/nn/mamba_layer.h"

namespace segmamba::nn {

torch::Tensor volume_to_tokens(const torch::Tensor& volume) {
  return volume.flatten(2).transpose(1, 2);
}

torch::Tensor tokens_to_volume(const torch::Tensor& tokens, torch::IntArrayRef volume_sizes) {
  return tokens.transpose(1, 2).contiguous().view(volume_sizes);
}

MambaLayerImpl::MambaLayerImpl(const MambaLayerOptions& options) : residual_(options.residual) {
  norm = register_module("norm",
                         torch::nn::LayerNorm(torch::nn::LayerNormOptions({options.mamba.dim})));
  mamba = register_module("mamba", Mamba(options.mamba));
}

torch::Tensor MambaLayerImpl::forward(const torch::Tensor& input) {
  const auto tokens = mamba(norm(volume_to_tokens(input)), /*slices=*/input.size(2));
  const auto output = tokens_to_volume(tokens, input.sizes());
  return residual_ ? output + input : output;
}

}  // namespace segmamba::nn
