#pragma once
// Feature volumes as sequences of tokens, one a voxel or pixel, and back.

#include <torch/torch.h>

namespace segmamba::nn {

// [B, C, (D,) H, W] as tokens [B, D*H*W, C], W fastest. Channels-last volumes lie in memory as
// their tokens do, so that neither this nor the way back copies.
torch::Tensor volume_to_tokens(const torch::Tensor& volume);

// Tokens [B, D*H*W, C] as a volume of sizes [(D,) H, W] in this memory format, [B, C, (D,) H, W].
torch::Tensor tokens_to_volume(const torch::Tensor& tokens, torch::IntArrayRef sizes,
                               torch::MemoryFormat format);
// In the sizes and the memory format of `volume`.
torch::Tensor tokens_to_volume(const torch::Tensor& tokens, const torch::Tensor& volume);

}  // namespace segmamba::nn
