#pragma once
// The norms of the networks over volumes [B, C, D, H, W].

#include <torch/torch.h>

#include <cstdint>

#include "segmamba/ops/instance_norm.h"

namespace segmamba::nn {

// (x - mean) / sqrt(var + 1e-5), mean and biased variance over each channel of each item, always of
// the instance itself; then what `after` says. [B, C, D, H, W] -> the
// same. By value: in inference mode, a caller that moves its last reference in gets its memory
// back.
torch::Tensor instance_norm(torch::Tensor input, const ops::AfterNorm& after = {});

// weight_c instance_norm(x_c) + bias_c, then what `after` says (whose weight and bias are these).
class AffineInstanceNormImpl : public torch::nn::Module {
 public:
  explicit AffineInstanceNormImpl(std::int64_t channels);
  torch::Tensor forward(torch::Tensor input, ops::AfterNorm after = {});
  void reset_parameters();
  void pretty_print(std::ostream& stream) const override;

  torch::Tensor weight;  // [C]
  torch::Tensor bias;    // [C]
};
TORCH_MODULE(AffineInstanceNorm);

// torch::nn::GroupNorm, computed in float32 where the data are 16-bit: autocast does so on GPUs,
// and LibTorch 2.11's own 16-bit version has gradients of nan on the CPU.
class GroupNormImpl : public torch::nn::GroupNormImpl {
 public:
  using torch::nn::GroupNormImpl::GroupNormImpl;
  torch::Tensor forward(const torch::Tensor& input);
};
TORCH_MODULE(GroupNorm);

// LayerNorm over the channels of every voxel (ConvNeXt's channels-first LayerNorm):
// weight_c (x_c - mean) / sqrt(var + eps) + bias_c. [B, C, D, H, W] -> the same.
class ChannelLayerNormImpl : public torch::nn::Module {
 public:
  explicit ChannelLayerNormImpl(std::int64_t channels, double eps = 1e-6);
  torch::Tensor forward(const torch::Tensor& input);
  void reset_parameters();
  void pretty_print(std::ostream& stream) const override;

  torch::Tensor weight;  // [C]
  torch::Tensor bias;    // [C]

 private:
  double eps_;
};
TORCH_MODULE(ChannelLayerNorm);

}  // namespace segmamba::nn
