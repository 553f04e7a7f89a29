#pragma once
// Mamba over the voxels of a feature volume.

#include <torch/torch.h>

#include "segmamba/nn/mamba.h"
#include "segmamba/nn/norms.h"

namespace segmamba::nn {

struct MambaLayerOptions {
  MambaOptions mamba;
  bool residual = true;
  bool scans_channels = false;  // tokens are channels, of as many numbers as there are voxels
  bool float32 = false;         // whatever the data's type, under autocast as well
};

// out = Mamba(LayerNorm(x)) + x, the sum left out where `residual` is false (the first release of
// the published code, ge-xing/SegMamba at 389405b). LayerNorm's eps is 1e-5; inter-slice scans take
// the volume's depth as the number of slices. Where `scans_channels` is set, the tokens [B, C,
// D*H*W] are the channels instead of the voxels. [B, C, D, H, W] -> the same.
class MambaLayerImpl : public torch::nn::Module {
 public:
  explicit MambaLayerImpl(const MambaLayerOptions& options);
  torch::Tensor forward(const torch::Tensor& input);
  bool stays_float32() const { return options_.float32; }

  LayerNorm norm{nullptr};
  Mamba mamba{nullptr};

 private:
  torch::Tensor mix(const torch::Tensor& input);

  MambaLayerOptions options_;
};
TORCH_MODULE(MambaLayer);

}  // namespace segmamba::nn
