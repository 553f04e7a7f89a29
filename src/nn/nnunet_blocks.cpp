#include "segmamba/nn/nnunet_blocks.h"

#include <algorithm>
#include <utility>

#include "segmamba/core/error.h"
#include "segmamba/core/text.h"

namespace segmamba::nn {
namespace {

constexpr double kSlope = 0.01;
constexpr Axes kOnes = {1, 1, 1};

using Lists = std::vector<std::vector<std::int64_t>>;

Axes axes(const char* key, const std::vector<std::int64_t>& entry) {
  if (entry.size() != 3) {
    throw Error(concat("model.", key, ": each entry needs three numbers [D, H, W], got [",
                       join(entry, ", "), "]"));
  }
  return {entry[0], entry[1], entry[2]};
}

std::vector<Axes> kernels(const Lists& list, std::size_t stages) {
  if (list.size() != 1 && list.size() != stages) {
    throw Error(concat("model.kernel_sizes needs one entry, or one a stage (", stages, "), got ",
                       list.size()));
  }
  std::vector<Axes> result;
  for (std::size_t i = 0; i < stages; ++i) {
    result.push_back(axes("kernel_sizes", list[list.size() == 1 ? 0 : i]));
    if (std::any_of(result[i].begin(), result[i].end(), [](auto taps) { return taps % 2 == 0; })) {
      throw Error(concat("model.kernel_sizes: must be odd, got [", join(result[i], ", "), "]"));
    }
  }
  return result;
}

std::vector<Axes> strides(const Lists& list, std::size_t stages) {
  std::vector<Axes> result(stages, {2, 2, 2});
  result[0] = kOnes;
  if (list.empty()) return result;
  if (list.size() != stages) {
    throw Error(
        concat("model.strides needs one entry a stage (", stages, "), or [], got ", list.size()));
  }
  for (std::size_t i = 0; i < stages; ++i) result[i] = axes("strides", list[i]);
  if (result[0] != kOnes) {
    throw Error(concat("model.strides: the first stage keeps the full resolution, [1, 1, 1], got [",
                       join(result[0], ", "), "]"));
  }
  return result;
}

std::vector<std::int64_t> counts(const char* key, const std::vector<std::int64_t>& list,
                                 std::size_t stages) {
  if (list.size() == stages) return list;
  if (list.size() == 1) return std::vector<std::int64_t>(stages, list[0]);
  throw Error(
      concat("model.", key, " needs one number, or one a stage (", stages, "), got ", list.size()));
}

template <class Options>
UnetPlan plan(const Options& options, const char* blocks_key,
              const std::vector<std::int64_t>& blocks) {
  const auto stages = options.features_per_stage.size();
  if (stages < 2) throw Error("model.features_per_stage needs at least two stages, got 1");
  const auto kernel = kernels(options.kernel_sizes, stages);
  const auto stride = strides(options.strides, stages);
  const auto count = counts(blocks_key, blocks, stages);
  UnetPlan result;
  result.bias = options.conv_bias;
  result.affine = options.norm_affine;
  for (std::size_t i = 0; i < stages; ++i) {
    result.stages.push_back({options.features_per_stage[i], kernel[i], stride[i], count[i]});
  }
  result.decoder_blocks =
      counts("n_conv_per_stage_decoder", options.n_conv_per_stage_decoder, stages - 1);
  return result;
}

// The mean over windows that lie side by side.
torch::Tensor average(const torch::Tensor& input, const Axes& window) {
  const auto type = input.scalar_type();
  const bool is_half = type == torch::kBFloat16 || type == torch::kHalf;
  // LibTorch has none for 16 bits on the CPU.
  if (!is_half || !input.is_cpu()) return torch::avg_pool3d(input, window, window);
  return torch::avg_pool3d(input.to(torch::kFloat32), window, window).to(type);
}

template <class Unit>
UnetBlocks units(std::int64_t count, ConvUnitOptions options) {
  UnetBlocks blocks;
  for (std::int64_t i = 0; i < count; ++i) {
    blocks.push_back(std::make_shared<Unit>(options));
    options.in_channels = options.out_channels;
    options.stride = kOnes;
  }
  return blocks;
}

}  // namespace

InputSizes UnetPlan::input_sizes() const {
  InputSizes sizes{.norms_coarsest = true};
  for (const auto& stage : stages) {
    for (std::size_t axis = 0; axis < 3; ++axis) sizes.multiple[axis] *= stage.stride[axis];
  }
  return sizes;
}

UnetPlan unet_plan(const NnUnetOptions& options) {
  return plan(options, "n_conv_per_stage", options.n_conv_per_stage);
}

UnetPlan unet_plan(const NnUnetResEncOptions& options) {
  return plan(options, "n_blocks_per_stage", options.n_blocks_per_stage);
}

torch::Tensor run_blocks(const UnetBlocks& blocks, torch::Tensor input) {
  for (const auto& block : blocks) input = block->forward(std::move(input));
  return input;
}

Convolution unet_convolution(const ConvUnitOptions& options) {
  const auto& [d, h, w] = options.kernel;
  return Convolution(
      torch::nn::Conv3dOptions(options.in_channels, options.out_channels, options.kernel)
          .stride(options.stride)
          .padding(Axes{d / 2, h / 2, w / 2})
          .bias(options.bias));
}

ConvUnit::ConvUnit(const ConvUnitOptions& options) {
  conv = register_module("conv", unet_convolution(options));
  norm = register_module("norm", AffineInstanceNorm(options.out_channels, options.affine));
}

torch::Tensor ConvUnit::forward(torch::Tensor input) {
  auto output = conv(input);
  input.reset();
  return norm(std::move(output), ops::AfterNorm{.slope = kSlope});
}

UnetBlocks conv_units(std::int64_t count, ConvUnitOptions first) {
  return units<ConvUnit>(count, first);
}

ResidualUnit::ResidualUnit(const ConvUnitOptions& options) : stride_(options.stride) {
  auto second = options;
  second.in_channels = options.out_channels;
  second.stride = kOnes;
  conv1 = register_module("conv1", std::make_shared<ConvUnit>(options));
  conv2 = register_module("conv2", std::make_shared<ConvUnit>(second));
  if (options.in_channels == options.out_channels) return;
  projection_ = std::make_shared<ConvUnit>(ConvUnitOptions{.in_channels = options.in_channels,
                                                           .out_channels = options.out_channels,
                                                           .kernel = kOnes,
                                                           .bias = false,
                                                           .affine = options.affine});
  // The pooling before it has no parameters, and yet its place.
  const auto skip = std::make_shared<torch::nn::Module>();
  skip->register_module(stride_ == kOnes ? "0" : "1", projection_);
  register_module("skip", skip);
}

torch::Tensor ResidualUnit::forward(torch::Tensor input) {
  auto output = conv2->conv(conv1->forward(input));
  ops::AfterNorm after{.slope = kSlope};
  after.shortcut = stride_ == kOnes ? input : average(input, stride_);
  input.reset();
  if (projection_) {
    after.shortcut = projection_->conv(after.shortcut);
    after.normalises_shortcut = true;
    after.shortcut_weight = projection_->norm->weight;
    after.shortcut_bias = projection_->norm->bias;
  }
  return conv2->norm(std::move(output), std::move(after));
}

UnetBlocks residual_units(std::int64_t count, ConvUnitOptions first) {
  return units<ResidualUnit>(count, first);
}

UnetUp transposed_up(std::int64_t in_channels, std::int64_t out_channels, const Axes& stride,
                     bool bias) {
  UpConvolution up(in_channels, out_channels, stride, bias);
  return {up.ptr(), [up](torch::Tensor input, torch::Tensor skip) mutable {
            return up->forward_beside(std::move(input), std::move(skip));
          }};
}

void init_he(torch::nn::Module& module) {
  const auto init = [](auto& convolution) {
    torch::nn::init::kaiming_normal_(convolution.weight, kSlope);
    if (convolution.bias.defined()) torch::nn::init::zeros_(convolution.bias);
  };
  for (const auto& child : module.modules(/*include_self=*/false)) {
    if (auto* convolution = child->template as<torch::nn::Conv3dImpl>()) {
      init(*convolution);
    } else if (auto* transposed = child->template as<torch::nn::ConvTranspose3dImpl>()) {
      init(*transposed);
    }
  }
}

}  // namespace segmamba::nn
