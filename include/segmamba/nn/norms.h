#pragma once
// The norms of the networks: of volumes [B, C, D, H, W], and over the last axis of [..., C].

#include <torch/torch.h>

#include <cstdint>

#include "segmamba/ops/instance_norm.h"

namespace segmamba::nn {

// (x - mean) / sqrt(var + 1e-5), mean and biased variance over each channel of each item, always of
// the instance itself; then what `after` says. [B, C, D, H, W] -> the same.
// By value: a caller that moves its last reference in gets its memory back. The result has the type
// of the input, to which what `after` adds is converted.
torch::Tensor instance_norm(torch::Tensor input, ops::AfterNorm after = {});

// weight_c instance_norm(x_c) + bias_c, then what `after` says (whose weight and bias are these).
// Without `affine` there is neither of them.
class AffineInstanceNormImpl : public torch::nn::Module {
 public:
  explicit AffineInstanceNormImpl(std::int64_t channels, bool affine = true);
  torch::Tensor forward(torch::Tensor input, ops::AfterNorm after = {});
  void reset_parameters();
  void pretty_print(std::ostream& stream) const override;

  torch::Tensor weight;  // [C], or undefined
  torch::Tensor bias;    // likewise

 private:
  std::int64_t channels_;
};
TORCH_MODULE(AffineInstanceNorm);

// torch::nn::GroupNorm, computed in float32 where the data are 16-bit, as autocast does on GPUs.
class GroupNormImpl : public torch::nn::GroupNormImpl {
 public:
  using torch::nn::GroupNormImpl::GroupNormImpl;
  torch::Tensor forward(const torch::Tensor& input);
};
TORCH_MODULE(GroupNorm);

// torch::nn::BatchNorm3d whose running statistics count each batch once, also where a part of the
// network is computed again (recompute.h).
class BatchNormImpl : public torch::nn::BatchNorm3dImpl {
 public:
  using torch::nn::BatchNorm3dImpl::BatchNorm3dImpl;
  torch::Tensor forward(const torch::Tensor& input);
};
TORCH_MODULE(BatchNorm);

// weight_c (x_c - mean) / sqrt(var + eps) + bias_c over the last axis; weight and bias [C] may be
// undefined, and stay in float32 where the data are 16-bit. [..., C] -> the same.
torch::Tensor last_axis_norm(const torch::Tensor& input, const torch::Tensor& weight,
                             const torch::Tensor& bias, double eps = 1e-5);

// last_axis_norm() with weight and bias, eps 1e-5. [..., C] -> the same.
class LayerNormImpl : public torch::nn::LayerNormImpl {
 public:
  explicit LayerNormImpl(std::int64_t channels);
  torch::Tensor forward(const torch::Tensor& input);
};
TORCH_MODULE(LayerNorm);

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

// Root-mean-square norm over the channels of every token (arXiv 1910.07467, eps 1e-5):
// weight_c x_c / sqrt(mean(x^2) + eps), computed in float32 where x is 16-bit.
// [..., C] -> the same.
class RmsNormImpl : public torch::nn::Module {
 public:
  explicit RmsNormImpl(std::int64_t channels);
  torch::Tensor forward(const torch::Tensor& input);
  void reset_parameters();

  torch::Tensor weight;  // [C]
};
TORCH_MODULE(RmsNorm);

}  // namespace segmamba::nn
