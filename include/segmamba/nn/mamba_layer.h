#pragma once
// Mamba over the voxels of a feature volume.

#include <torch/torch.h>

#include "segmamba/nn/mamba.h"
#include "segmamba/nn/norms.h"

namespace segmamba::nn {

// [B, C, D, H, W] as tokens [B, D*H*W, C], W fastest, and back to the sizes and the memory format
// of `volume`. Channels-last volumes lie in memory as their tokens do, so that neither copies.
torch::Tensor volume_to_tokens(const torch::Tensor& volume);
torch::Tensor tokens_to_volume(const torch::Tensor& tokens, const torch::Tensor& volume);

struct MambaLayerOptions {
  MambaOptions mamba;
  bool residual = true;
};

// out = Mamba(LayerNorm(x)) + x, the sum left out where `residual` is false (the first release of
// the published code, ge-xing/SegMamba at 389405b). LayerNorm's eps is 1e-5; inter-slice scans take
// the volume's depth as the number of slices. [B, C, D, H, W] -> the same.
class MambaLayerImpl : public torch::nn::Module {
 public:
  explicit MambaLayerImpl(const MambaLayerOptions& options);
  torch::Tensor forward(const torch::Tensor& input);

  LayerNorm norm{nullptr};
  Mamba mamba{nullptr};

 private:
  bool residual_;
};
TORCH_MODULE(MambaLayer);

}  // namespace segmamba::nn
