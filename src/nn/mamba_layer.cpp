#include "segmamba/nn/mamba_layer.h"

#include "segmamba/nn/tokens.h"

namespace segmamba::nn {

MambaLayerImpl::MambaLayerImpl(const MambaLayerOptions& options) : options_(options) {
  norm = register_module("norm", LayerNorm(options.mamba.dim));
  mamba = register_module("mamba", Mamba(options.mamba));
}

torch::Tensor MambaLayerImpl::forward(const torch::Tensor& input) {
  torch::Tensor output;
  if (options_.float32) {
    const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
    const auto type = input.scalar_type();
    const bool is_half = type == torch::kBFloat16 || type == torch::kHalf;
    output = mix(is_half ? input.to(torch::kFloat32) : input).to(type);
  } else {
    output = mix(input);
  }
  return options_.residual ? output + input : output;
}

torch::Tensor MambaLayerImpl::mix(const torch::Tensor& input) {
  if (!options_.scans_channels) {
    return tokens_to_volume(mamba(norm(volume_to_tokens(input)), /*slices=*/input.size(2)), input);
  }
  return mamba(norm(input.flatten(2)), /*slices=*/1)
      .view(input.sizes())
      .contiguous(input.suggest_memory_format());
}

}  // namespace segmamba::nn
