#pragma once
// LibTorch's convolutions, which can be prepared for inference: see inference.h.

#include <torch/torch.h>

#include <array>
#include <cstdint>

namespace segmamba::nn {

// Whether this processor multiplies matrices of a 16-bit type by instructions of their own (AMX).
bool has_matrix_unit(torch::ScalarType type);

// On the CPU, those of one channel each (depth-wise) run channels last whatever the input's format:
// LibTorch has nothing fast for them otherwise. [B, in, D, H, W] -> [B, out, D', H', W'].
class ConvolutionImpl : public torch::nn::Conv3dImpl {
 public:
  using torch::nn::Conv3dImpl::Conv3dImpl;
  torch::Tensor forward(const torch::Tensor& input);

  // From now on forward() takes data of `type`, channels last, and has no gradients. On the CPU,
  // 3^3 taps of stride 1 are computed by Winograd's filtering, in float32 whatever the type, unless
  // the processor multiplies matrices of that type; then large weights are laid out for oneDNN
  // once, and `weight` is empty.
  void prepare_for_inference(torch::ScalarType type);

 private:
  torch::Tensor winograd_weight_;
  torch::Tensor packed_weight_;  // oneDNN's
};
TORCH_MODULE(Convolution);

// Transposed. [B, in, D, H, W] -> [B, out, D', H', W'].
class TransposedConvolutionImpl : public torch::nn::ConvTranspose3dImpl {
 public:
  using torch::nn::ConvTranspose3dImpl::ConvTranspose3dImpl;
  torch::Tensor forward(const torch::Tensor& input);
  virtual void prepare_for_inference(torch::ScalarType type);
};
TORCH_MODULE(TransposedConvolution);

// A transposed convolution with as many taps as its stride S, so that each voxel becomes S: a
// matrix product for data on the CPU that lies channels last.
// [B, in, D, H, W] -> [B, out, S_0 D, S_1 H, S_2 W].
class UpConvolutionImpl : public TransposedConvolutionImpl {
 public:
  UpConvolutionImpl(std::int64_t in_channels, std::int64_t out_channels,
                    const std::array<std::int64_t, 3>& stride = {2, 2, 2}, bool bias = false);
  torch::Tensor forward(const torch::Tensor& input);
  // cat({forward(input), skip}, 1), skip [B, channels, S_0 D, S_1 H, S_2 W]. By value: each is
  // freed after its last use.
  torch::Tensor forward_beside(torch::Tensor input, torch::Tensor skip);

  void prepare_for_inference(torch::ScalarType type) override;

 private:
  // forward(input), channels last, as a matrix product: each voxel becomes several, none of which
  // another one reaches. With gradients; or without, into `target`, a view of its shape.
  torch::Tensor multiply(const torch::Tensor& input) const;
  void multiply(const torch::Tensor& input, const torch::Tensor& target) const;

  std::array<std::int64_t, 3> stride_;
  torch::Tensor matrix_;      // [in, taps * out]: taps, then output channels
  torch::Tensor row_biases_;  // [taps * out], or undefined
};
TORCH_MODULE(UpConvolution);

}  // namespace segmamba::nn
