#pragma once
// What the U-Nets of nnU-Net's family are made of (MIC-DKFZ/dynamic-network-architectures at
// d35f85c). Every norm is an AffineInstanceNorm, with parameters or without, lrelu has slope 0.01,
// and convolutions keep the size but for their stride.

#include <torch/torch.h>

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "segmamba/nn/convolution.h"
#include "segmamba/nn/model.h"
#include "segmamba/nn/norms.h"

namespace segmamba::nn {

using Axes = std::array<std::int64_t, 3>;  // D, H, W

// What a config asks for, one entry a stage from full resolution down.
struct UnetPlan {
  struct Stage {
    std::int64_t channels;
    Axes kernel, stride;
    std::int64_t blocks;
  };
  std::vector<Stage> stages;
  std::vector<std::int64_t> decoder_blocks;  // from the bottom up, one fewer
  bool bias = true, affine = true;           // of convolutions and norms

  // Multiples of the product of all strides.
  InputSizes input_sizes() const;
};

// Throws Error naming the config key that does not fit.
UnetPlan unet_plan(const NnUnetOptions& options);
UnetPlan unet_plan(const NnUnetResEncOptions& options);

// A piece of a stage. [B, in, D, H, W] -> [B, out, D / stride, ...].
class UnetBlock : public torch::nn::Module {
 public:
  // By value: a caller that moves its last reference in lets the block free the input early.
  virtual torch::Tensor forward(torch::Tensor input) = 0;
};

// One after the other.
using UnetBlocks = std::vector<std::shared_ptr<UnetBlock>>;
torch::Tensor run_blocks(const UnetBlocks& blocks, torch::Tensor input);

struct ConvUnitOptions {
  std::int64_t in_channels, out_channels;
  Axes kernel = {3, 3, 3};
  Axes stride = {1, 1, 1};
  bool bias = true;
  bool affine = true;  // a norm with weight and bias
};

// A convolution that keeps the size but for its stride.
Convolution unet_convolution(const ConvUnitOptions& options);

// lrelu(norm(conv x)).
class ConvUnit : public UnetBlock {
 public:
  explicit ConvUnit(const ConvUnitOptions& options);
  torch::Tensor forward(torch::Tensor input) override;

  Convolution conv{nullptr};
  AffineInstanceNorm norm{nullptr};
};

// `count` of them, of which the first changes channels and resolution.
UnetBlocks conv_units(std::int64_t count, ConvUnitOptions first);

// BasicBlockD: lrelu(norm(conv2 lrelu(norm(conv1 x))) + skip(x)). Conv1 has the stride; `skip` is
// average pooling over the stride, then, where the channels change, norm(conv 1^3 without bias).
class ResidualUnit : public UnetBlock {
 public:
  explicit ResidualUnit(const ConvUnitOptions& options);
  torch::Tensor forward(torch::Tensor input) override;

  std::shared_ptr<ConvUnit> conv1, conv2;  // conv2 without its activation

 private:
  Axes stride_;
  std::shared_ptr<ConvUnit> projection_;  // or null; likewise
};

// `count` of them, of which the first changes channels and resolution.
UnetBlocks residual_units(std::int64_t count, ConvUnitOptions first);

// The way up in a decoder: beside(x, skip) = [up x, skip], x's resolution times `stride`.
struct UnetUp {
  std::shared_ptr<torch::nn::Module> module;
  std::function<torch::Tensor(torch::Tensor input, torch::Tensor skip)> beside;
};

// A transposed convolution, its taps the strides.
UnetUp transposed_up(std::int64_t in_channels, std::int64_t out_channels, const Axes& stride,
                     bool bias);

// Weights of all volume convolutions, transposed ones included, from He's normal distribution for a
// leaky ReLU of slope 0.01; biases 0.
void init_he(torch::nn::Module& module);

}  // namespace segmamba::nn
