#include "segmamba/nn/tokens.h"

namespace segmamba::nn {

torch::Tensor volume_to_tokens(const torch::Tensor& volume) {
  return volume.flatten(2).transpose(1, 2);
}

torch::Tensor tokens_to_volume(const torch::Tensor& tokens, torch::IntArrayRef sizes,
                               torch::MemoryFormat format) {
  return tokens.transpose(1, 2).unflatten(2, sizes).contiguous(format);
}

torch::Tensor tokens_to_volume(const torch::Tensor& tokens, const torch::Tensor& volume) {
  return tokens_to_volume(tokens, volume.sizes().slice(2), volume.suggest_memory_format());
}

}  // namespace segmamba::nn
