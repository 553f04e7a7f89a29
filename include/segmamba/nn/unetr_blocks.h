#pragma once
// The convolution blocks of the UNETR decoder (MONAI 1.5.1, networks/blocks/unetr_block.py and
// dynunet_block.py). IN is an instance norm; no convolution but the last has a bias.

#include <torch/torch.h>

#include <cstdint>
#include <vector>

#include "segmamba/nn/chain.h"
#include "segmamba/nn/convolution.h"
#include "segmamba/nn/norms.h"
#include "segmamba/nn/recompute.h"

namespace segmamba::nn {

struct UnetrBlockOptions {
  bool residual = true;   // a shortcut, "res_block"
  bool affine = false;    // instance norms with weight and bias
  bool convolves = true;  // blocks after the transposed convolutions of a transformer's features
};

// out = lrelu(IN(conv2 lrelu(IN(conv1 x))) + shortcut(x)), lrelu of slope 0.01; the shortcut is x
// where the channels agree and IN(conv3 x) where not, or none. conv1, conv2: 3^3; conv3: 1^3.
// [B, in, D, H, W] -> [B, out, D, H, W].
class ResidualBlockImpl : public torch::nn::Module {
 public:
  ResidualBlockImpl(std::int64_t in_channels, std::int64_t out_channels,
                    const UnetrBlockOptions& options = {});
  // By value: a caller that moves its last reference in lets the block free the input early. For
  // gradients the input is kept, the shortcut formed again.
  torch::Tensor forward(torch::Tensor input);
  // The same of an input of which only what it is formed of is kept.
  torch::Tensor compute(FormedAgain input);

  Chain conv1{nullptr}, conv2{nullptr}, conv3{nullptr};
  AffineInstanceNorm norm1{nullptr}, norm2{nullptr}, norm3{nullptr};

 private:
  bool residual_;
};
TORCH_MODULE(ResidualBlock);

// A ResidualBlock under the name `layer`.
class UnetrBasicBlockImpl : public torch::nn::Module {
 public:
  UnetrBasicBlockImpl(std::int64_t in_channels, std::int64_t out_channels,
                      const UnetrBlockOptions& options = {});
  torch::Tensor forward(torch::Tensor input);

  ResidualBlock layer{nullptr};
};
TORCH_MODULE(UnetrBasicBlock);

// out = conv_block([up x, skip]): `up` is a transposed convolution, 2^3 taps, stride 2.
// x [B, in, D, H, W], skip [B, out, 2D, 2H, 2W] -> [B, out, 2D, 2H, 2W]. For gradients, x and skip
// are kept and [up x, skip], eight times the size of x, is not.
class UnetrUpBlockImpl : public torch::nn::Module {
 public:
  UnetrUpBlockImpl(std::int64_t in_channels, std::int64_t out_channels,
                   const UnetrBlockOptions& options = {});
  torch::Tensor forward(torch::Tensor input, torch::Tensor skip);

  ResidualBlock conv_block{nullptr};

 private:
  UpConvolution up_{nullptr};
};
TORCH_MODULE(UnetrUpBlock);

// Features of a transformer, brought to 2^steps times their resolution: a transposed convolution as
// in UnetrUpBlock to `out` channels, then steps - 1 times another one and a ResidualBlock (MONAI's
// UnetrPrUpBlock). [B, in, D, H, W] -> [B, out, 2^steps D, 2^steps H, 2^steps W].
class UnetrProjectionUpBlockImpl : public torch::nn::Module {
 public:
  UnetrProjectionUpBlockImpl(std::int64_t in_channels, std::int64_t out_channels,
                             std::int64_t steps, const UnetrBlockOptions& options = {});
  torch::Tensor forward(torch::Tensor input);

 private:
  UpConvolution first_{nullptr};
  std::vector<UpConvolution> ups_;
  std::vector<ResidualBlock> blocks_;  // none where there are no convolutions
};
TORCH_MODULE(UnetrProjectionUpBlock);

// The head: a 1^3 convolution with bias. [B, in, D, H, W] -> [B, out, D, H, W].
class UnetrOutBlockImpl : public torch::nn::Module {
 public:
  UnetrOutBlockImpl(std::int64_t in_channels, std::int64_t out_channels);
  torch::Tensor forward(const torch::Tensor& input);

  Chain conv{nullptr};
};
TORCH_MODULE(UnetrOutBlock);

}  // namespace segmamba::nn
