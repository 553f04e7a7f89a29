#pragma once

#include "segmamba/nn/encoder.h"
#include "segmamba/nn/mamba.h"
#include "segmamba/nn/norms.h"

namespace segmamba::nn {

struct PaperBlockOptions {
  MambaOptions mamba;
  std::int64_t mlp_ratio = 4;
};

// Eq. 1 of arXiv 2401.13560: z' = Mamba(LN z) + z; out = MLP(LN z') + z', with
// MLP = fc2 GELU fc1 over tokens and LN's eps 1e-5. [B, C, D, H, W] -> the same.
class PaperBlockImpl : public torch::nn::Module {
 public:
  explicit PaperBlockImpl(const PaperBlockOptions& options);
  torch::Tensor forward(const torch::Tensor& input);

  LayerNorm norm1{nullptr}, norm2{nullptr};
  Mamba mamba{nullptr};
  torch::nn::Linear fc1{nullptr}, fc2{nullptr};
};
TORCH_MODULE(PaperBlock);

// The encoder as the paper writes it (no code was released for it; state-dict prefix
// `mamba_encoder`):
//   stem:    x = depth-wise conv 7^3 of stride 2 (groups = input channels, which must divide
//            dims[0]); before later stages x = conv 2^3 (norm x), stride 2
//   stage i: depths[i] blocks of Eq. 1
//   output:  x
// The paper leaves open the MLP's ratio, the directions and the norm at down-sampling: see
// ModelConfig for the options and their defaults.
class PaperEncoderImpl : public Encoder {
 public:
  explicit PaperEncoderImpl(const ModelConfig& config);
  torch::Tensor stage(std::int64_t i, const torch::Tensor& input) override;
  torch::Tensor output(std::int64_t i, const torch::Tensor& feature) override;

 private:
  std::vector<torch::nn::Sequential> downsample_layers_;
  std::vector<torch::nn::Sequential> stages_;
};

}  // namespace segmamba::nn
