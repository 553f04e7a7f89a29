#include "segmamba/nn/mednext.h"

#include <algorithm>
#include <array>
#include <map>
#include <utility>

#include "module_list.h"
#include "segmamba/core/error.h"
#include "segmamba/core/text.h"
#include "segmamba/nn/mlp.h"
#include "segmamba/nn/norms.h"

namespace segmamba::nn {
namespace {

constexpr std::size_t kLevels = 9, kDepth = 4;  // depth: of the bottleneck
using PerLevel = std::array<std::int64_t, kLevels>;

enum class Resampling { kNone, kDown, kUp };

struct BlockOptions {
  std::int64_t in_channels, out_channels, expansion, taps;
  Resampling resampling = Resampling::kNone;
  bool residual = true, grn = false;
};

// Without gradients, over its input: at full resolution that is the largest tensor of the network.
torch::Tensor activate(torch::Tensor input) {
  return at::GradMode::is_enabled() ? torch::gelu(input) : at::gelu_(input);
}

// One plane of zeros before the first of each axis.
torch::Tensor pad_front(const torch::Tensor& input) {
  return torch::constant_pad_nd(input, {1, 0, 1, 0, 1, 0});
}

std::string level_name(std::size_t level) {
  if (level == kDepth) return "bottleneck";
  return level < kDepth ? concat("enc_block_", level) : concat("dec_block_", kLevels - 1 - level);
}

}  // namespace

// Global response normalisation (arXiv 2301.00808), n = norm over space / its mean over channels:
// y = gamma (x n) + beta + x.
class MedNextBlockImpl : public torch::nn::Module {
 public:
  MedNextBlockImpl(const MedNextOptions& options, const BlockOptions& block)
      : resampling_(block.resampling), grn_(block.grn) {
    const auto channels = block.in_channels, hidden = block.expansion * block.in_channels;
    const auto taps = block.taps;
    const std::int64_t stride = resampling_ == Resampling::kNone ? 1 : 2;
    const auto pointwise = [](std::int64_t in, std::int64_t out, std::int64_t step) {
      return Convolution(torch::nn::Conv3dOptions(in, out, 1).stride(step));
    };
    if (resampling_ == Resampling::kUp) {
      up1_ = register_module(
          "conv1", TransposedConvolution(torch::nn::ConvTranspose3dOptions(channels, channels, taps)
                                             .stride(stride)
                                             .padding(taps / 2)
                                             .groups(channels)));
    } else {
      conv1_ =
          register_module("conv1", Convolution(torch::nn::Conv3dOptions(channels, channels, taps)
                                                   .stride(stride)
                                                   .padding(taps / 2)
                                                   .groups(channels)));
    }
    if (options.norm_type == "group") {
      instance_norm_ = register_module("norm", AffineInstanceNorm(channels));
    } else {
      layer_norm_ = register_module("norm", ChannelLayerNorm(channels, /*eps=*/1e-5));
    }
    conv2_ = register_module("conv2", pointwise(channels, hidden, 1));
    conv3_ = register_module("conv3", pointwise(hidden, block.out_channels, 1));
    if (grn_) {
      grn_beta_ = register_parameter("grn_beta", torch::zeros({1, hidden, 1, 1, 1}));
      grn_gamma_ = register_parameter("grn_gamma", torch::zeros({1, hidden, 1, 1, 1}));
    }
    residual_ = block.residual;
    if (!residual_) return;
    if (resampling_ == Resampling::kDown) {
      res_conv_ = register_module("res_conv", pointwise(channels, block.out_channels, stride));
    } else if (resampling_ == Resampling::kUp) {
      up_res_conv_ = register_module(
          "res_conv",
          TransposedConvolution(
              torch::nn::ConvTranspose3dOptions(channels, block.out_channels, 1).stride(stride)));
    }
  }

  torch::Tensor forward(const torch::Tensor& input) {
    const bool is_up = resampling_ == Resampling::kUp;
    auto output = is_up ? up1_(input) : conv1_(input);
    output = instance_norm_ ? instance_norm_(std::move(output)) : layer_norm_(output);
    output = conv2_(output);
    if (grn_) {
      output = conv3_(normalise_response(activate(std::move(output))));
    } else {
      output = gelu_product(std::move(output),
                            [this](const torch::Tensor& hidden) { return conv3_(hidden); });
    }
    if (residual_) {
      output += is_up                              ? up_res_conv_(input)
                : resampling_ == Resampling::kDown ? res_conv_(input)
                                                   : input;
    }
    return is_up ? pad_front(output) : output;
  }

 private:
  torch::Tensor normalise_response(const torch::Tensor& input) const {
    const auto type = input.scalar_type();
    const auto state = type == torch::kFloat64 ? torch::kFloat64 : torch::kFloat32;
    const auto norm = torch::linalg_vector_norm(input, 2, torch::IntArrayRef({2, 3, 4}),
                                                /*keepdim=*/true, state);
    const auto scale = grn_gamma_ * (norm / (norm.mean(1, /*keepdim=*/true) + 1e-6)) + 1;
    return torch::addcmul(grn_beta_.to(type), input, scale.to(type));
  }

  Resampling resampling_;
  bool grn_, residual_;
  Convolution conv1_{nullptr}, conv2_{nullptr}, conv3_{nullptr}, res_conv_{nullptr};
  TransposedConvolution up1_{nullptr}, up_res_conv_{nullptr};
  AffineInstanceNorm instance_norm_{nullptr};
  ChannelLayerNorm layer_norm_{nullptr};
  torch::Tensor grn_beta_, grn_gamma_;  // [1, hidden, 1, 1, 1]
};

namespace {

// `list`, or `otherwise` where it is empty.
PerLevel per_level(const char* key, const std::vector<std::int64_t>& list,
                   const PerLevel& otherwise, bool takes_one) {
  if (list.empty()) return otherwise;
  PerLevel result{};
  if (takes_one && list.size() == 1) {
    result.fill(list[0]);
  } else if (list.size() == kLevels) {
    std::copy(list.begin(), list.end(), result.begin());
  } else {
    throw Error(concat("model.", key, " needs ", takes_one ? "one number, or " : "", kLevels,
                       " (one a level, down and up again), got ", list.size()));
  }
  return result;
}

}  // namespace

const MedNextPreset& mednext_preset(const std::string& size) {
  static const std::map<std::string, MedNextPreset> presets = {
      {"S", {{2, 2, 2, 2, 2, 2, 2, 2, 2}, {2, 2, 2, 2, 2, 2, 2, 2, 2}}},
      {"B", {{2, 3, 4, 4, 4, 4, 4, 3, 2}, {2, 2, 2, 2, 2, 2, 2, 2, 2}}},
      {"M", {{2, 3, 4, 4, 4, 4, 4, 3, 2}, {3, 4, 4, 4, 4, 4, 4, 4, 3}}},
      {"L", {{3, 4, 8, 8, 8, 8, 8, 4, 3}, {3, 4, 8, 8, 8, 8, 8, 4, 3}}}};
  return presets.at(size);
}

InputSizes MedNextImpl::input_sizes(const ModelConfig& config) {
  return {.multiple = {16, 16, 16}, .norms_coarsest = config.mednext.norm_type == "group"};
}

MedNextImpl::MedNextImpl(const ModelConfig& config)
    : SegmentationModel(input_sizes(config), config.in_channels) {
  const auto& options = config.mednext;
  const auto decoder_taps =
      options.dec_kernel_size > 0 ? options.dec_kernel_size : options.kernel_size;
  const auto check_odd = [](const char* key, std::int64_t taps) {
    if (taps % 2 == 0) throw Error(concat("model.", key, ": must be odd, got ", taps));
  };
  check_odd("kernel_size", options.kernel_size);
  check_odd("dec_kernel_size", decoder_taps);
  const auto& sizes = mednext_preset(options.size);
  const auto expansion = per_level("exp_r", options.exp_r, sizes.exp_r, /*takes_one=*/true);
  const auto counts =
      per_level("block_counts", options.block_counts, sizes.block_counts, /*takes_one=*/false);
  // Of the features at 1 / 2^depth of the resolution.
  const auto width = [&](std::size_t depth) { return options.n_channels << depth; };
  const auto add = [&](const std::string& name, const BlockOptions& block) {
    return register_module(name, std::make_shared<MedNextBlockImpl>(options, block));
  };
  stem_ = register_module("stem",
                          Convolution(torch::nn::Conv3dOptions(config.in_channels, width(0), 1)));
  ups_.resize(kDepth);
  for (std::size_t level = 0; level < kLevels; ++level) {
    const auto depth = level <= kDepth ? level : kLevels - 1 - level;
    // The original counts the bottleneck with the decoder.
    const auto taps = level < kDepth ? options.kernel_size : decoder_taps;
    if (level > kDepth) {
      ups_[depth] = add(concat("up_", depth), {.in_channels = width(depth + 1),
                                               .out_channels = width(depth),
                                               .expansion = expansion[level],
                                               .taps = taps,
                                               .resampling = Resampling::kUp,
                                               .residual = options.do_res_up_down,
                                               .grn = options.grn});
    }
    Blocks blocks;
    for (std::int64_t j = 0; j < counts[level]; ++j) {
      blocks.push_back(
          std::make_shared<MedNextBlockImpl>(options, BlockOptions{.in_channels = width(depth),
                                                                   .out_channels = width(depth),
                                                                   .expansion = expansion[level],
                                                                   .taps = taps,
                                                                   .residual = options.do_res,
                                                                   .grn = options.grn}));
    }
    register_module(level_name(level), module_list(blocks));
    levels_.push_back(std::move(blocks));
    if (level < kDepth) {
      downs_.push_back(
          add(concat("down_", level),
              {.in_channels = width(level),
               .out_channels = width(level + 1),
               .expansion = expansion[level + 1],
               .taps = taps,
               .resampling = Resampling::kDown,
               .residual = options.do_res_up_down,
               .grn = options.grn && level > 0}));  // the original forgets it in the first
    }
  }
  for (std::size_t i = 0; i <= (config.deep_supervision ? kDepth : 0); ++i) {
    heads_.emplace_back(torch::nn::ConvTranspose3dOptions(width(i), config.out_channels, 1));
    const auto head = register_module(concat("out_", i), std::make_shared<torch::nn::Module>());
    head->register_module("conv_out", heads_.back());
  }
  // The original passes it through its checkpoints.
  register_parameter("dummy_tensor", torch::ones({1}), /*requires_grad=*/false);
}

torch::Tensor MedNextImpl::run_blocks(const std::string& name, const Blocks& blocks,
                                      torch::Tensor input) const {
  for (std::size_t j = 0; j < blocks.size(); ++j) {
    input = run_part(
        concat(name, ".", j), [block = blocks[j]](Tensors x) { return block->forward(x[0]); },
        moved(std::move(input)));
  }
  return input;
}

std::vector<torch::Tensor> MedNextImpl::compute(torch::Tensor input, bool deep) {
  auto feature = stem_(input);
  input.reset();
  Tensors skips, outputs;
  for (std::size_t level = 0; level < kLevels; ++level) {
    if (level > kDepth) {
      const auto depth = kLevels - 1 - level;
      feature = run_part(
          concat("up_", depth),
          [up = ups_[depth]](Tensors x) {
            auto output = up->forward(x[0]);
            x[0].reset();
            return output.add_(x[1]);
          },
          moved(std::move(feature), std::move(skips.back())));
      skips.pop_back();
    }
    feature = run_blocks(level_name(level), levels_[level], std::move(feature));
    if (level < kDepth) {
      skips.push_back(feature);
      feature = run_part(
          concat("down_", level), [down = downs_[level]](Tensors x) { return down->forward(x[0]); },
          moved(std::move(feature)));
    } else {
      const auto depth = kLevels - 1 - level;
      if (depth == 0 || (deep && depth < heads_.size())) outputs.push_back(heads_[depth](feature));
    }
  }
  std::reverse(outputs.begin(), outputs.end());
  return outputs;
}

std::vector<std::string> MedNextImpl::parts() const {
  std::vector<std::string> names;
  for (std::size_t level = 0; level < kLevels; ++level) {
    if (level > kDepth) names.push_back(concat("up_", kLevels - 1 - level));
    for (std::size_t j = 0; j < levels_[level].size(); ++j) {
      names.push_back(concat(level_name(level), ".", j));
    }
    if (level < kDepth) names.push_back(concat("down_", level));
  }
  return names;
}

}  // namespace segmamba::nn
