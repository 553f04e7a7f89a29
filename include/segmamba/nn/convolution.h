#pragma once
// LibTorch's convolutions, which can be prepared for inference: see inference.h.

#include <torch/torch.h>

namespace segmamba::nn {

// Whether this processor multiplies matrices of a 16-bit type by instructions of their own (AMX).
bool has_matrix_unit(torch::ScalarType type);

// [B, in, D, H, W] -> [B, out, D', H', W'].
class ConvolutionImpl : public torch::nn::Conv3dImpl {
 public:
  using torch::nn::Conv3dImpl::Conv3dImpl;
  torch::Tensor forward(const torch::Tensor& input);

  // From now on forward() takes data of `type`, channels last, and has no gradients. On the CPU,
  // 3^3 taps of stride 1 are computed by Winograd's filtering, in float32 whatever the type, unless
  // the processor multiplies matrices of that type.
  void prepare_for_inference(torch::ScalarType type);

 private:
  torch::Tensor winograd_weight_;
};
TORCH_MODULE(Convolution);

// A transposed convolution of 2^3 taps and stride 2, without bias.
// [B, in, D, H, W] -> [B, out, 2D, 2H, 2W].
class UpConvolutionImpl : public torch::nn::ConvTranspose3dImpl {
 public:
  UpConvolutionImpl(std::int64_t in_channels, std::int64_t out_channels);
  torch::Tensor forward(const torch::Tensor& input);
  // cat({forward(input), skip}, 1), skip [B, channels, 2D, 2H, 2W]. By value: each is freed after
  // its last use.
  torch::Tensor forward_beside(torch::Tensor input, torch::Tensor skip);

  void prepare_for_inference(torch::ScalarType type);

 private:
  void write_product(const torch::Tensor& input, const torch::Tensor& output) const;

  torch::Tensor matrix_;  // [in, 8 * out]: taps, then output channels
};
TORCH_MODULE(UpConvolution);

}  // namespace segmamba::nn
