#include "segmamba/nn/swin_unetr.h"

#include <numeric>
#include <utility>

#include "config_checks.h"
#include "module_list.h"
#include "segmamba/nn/drop_path.h"
#include "segmamba/nn/linear.h"

namespace segmamba::nn {
namespace {

constexpr std::size_t kStages = 4;

using Offsets = std::array<std::array<std::int64_t, 3>, 8>;

// `legacy` is a slip that trained weights depend on: it takes two neighbours twice and two never.
const Offsets& neighbours(const std::string& merging) {
  static constexpr Offsets kMerging = {
      {{0, 0, 0}, {1, 0, 0}, {0, 1, 0}, {0, 0, 1}, {1, 1, 0}, {1, 0, 1}, {0, 1, 1}, {1, 1, 1}}};
  static constexpr Offsets kLegacy = {
      {{0, 0, 0}, {1, 0, 0}, {0, 1, 0}, {0, 0, 1}, {1, 0, 1}, {0, 1, 0}, {0, 0, 1}, {1, 1, 1}}};
  static constexpr Offsets kMergingV2 = {
      {{0, 0, 0}, {0, 0, 1}, {0, 1, 0}, {0, 1, 1}, {1, 0, 0}, {1, 0, 1}, {1, 1, 0}, {1, 1, 1}}};
  if (merging == "legacy") return kLegacy;
  return merging == "mergingv2" ? kMergingV2 : kMerging;
}

// The image's encoder and those of x_0, x_1, x_2 and x_4.
constexpr std::array<const char*, 5> kEncoders = {"encoder1", "encoder2", "encoder3", "encoder4",
                                                  "encoder10"};

void check_config(const ModelConfig& config) {
  const auto& options = config.swin_unetr;
  refuse_deep_supervision(config.deep_supervision, config.name);
  for (std::size_t i = 0; i < kStages; ++i) {
    const auto width = options.feature_size << i;
    if (width % options.num_heads[i] != 0) {
      throw Error(concat("model.num_heads: of stage ", i, " must divide its ", width,
                         " channels, got ", options.num_heads[i]));
    }
  }
}

}  // namespace

torch::Tensor gather_neighbours(const torch::Tensor& volume, const std::string& merging) {
  std::vector<torch::Tensor> parts;
  for (const auto& [d, h, w] : neighbours(merging)) {
    const auto half = [](const torch::Tensor& tensor, std::int64_t dim, std::int64_t start) {
      return tensor.slice(dim, start, std::nullopt, 2);
    };
    parts.push_back(half(half(half(volume, 1, d), 2, h), 3, w));
  }
  return torch::cat(parts, 4);
}

InputSizes SwinUnetrImpl::input_sizes(const ModelConfig&) {
  return {.multiple = {32, 32, 32}, .norms_coarsest = true};
}

SwinUnetrImpl::SwinUnetrImpl(const ModelConfig& config)
    : SegmentationModel(input_sizes(config), config.in_channels), options_(config.swin_unetr) {
  check_config(config);
  const auto width = [&](std::size_t i) { return options_.feature_size << i; };
  auto encoder = std::make_shared<torch::nn::Module>("swin_transformer");
  auto embedding = std::make_shared<torch::nn::Module>("patch_embedding");
  patch_embed_ = embedding->register_module(
      "proj", Convolution(torch::nn::Conv3dOptions(config.in_channels, width(0), 2).stride(2)));
  if (options_.patch_norm) {
    patch_norm_ = embedding->register_module("norm", LayerNorm(width(0)));
  }
  encoder->register_module("patch_embed", embedding);
  const UnetrBlockOptions blocks{.affine = options_.norm_affine};
  const auto& depths = options_.depths;
  const auto rates = drop_path_rates(options_.dropout_path_rate,
                                     std::accumulate(depths.begin(), depths.end(), 0L));
  for (std::size_t i = 0; i < kStages; ++i) {
    stages_.push_back(make_stage(options_, i, rates, *encoder, config.name == "swin_unetr_v2"));
  }
  register_module("swinViT", encoder);
  for (std::size_t i = 0; i < kEncoders.size(); ++i) {
    const auto level = i == 4 ? 4 : i == 0 ? 0 : i - 1;
    encoders_.push_back(register_module(
        kEncoders[i],
        UnetrBasicBlock(i == 0 ? config.in_channels : width(level), width(level), blocks)));
  }
  for (std::size_t i = 0; i <= kStages; ++i) {
    const auto out_level = i == 0 ? 0 : i - 1;
    decoders_.push_back(register_module(concat("decoder", i + 1),
                                        UnetrUpBlock(width(i), width(out_level), blocks)));
  }
  out_ = register_module("out", UnetrOutBlock(width(0), config.out_channels));
}

SwinUnetrImpl::Stage SwinUnetrImpl::make_stage(const SwinUnetrOptions& options, std::size_t i,
                                               const std::vector<double>& rates,
                                               torch::nn::Module& encoder,
                                               bool has_convolutions) const {
  const auto channels = options.feature_size << i;
  const std::array<std::int64_t, 3> window = {options.window_size[0], options.window_size[1],
                                              options.window_size[2]};
  auto first = std::accumulate(options.depths.begin(),
                               options.depths.begin() + static_cast<std::ptrdiff_t>(i), 0L);
  Stage stage;
  for (std::int64_t j = 0; j < options.depths[i]; ++j) {
    WindowBlockOptions block{.attention = {.channels = channels,
                                           .heads = options.num_heads[i],
                                           .window = window,
                                           .factors = distinct_offsets(window),
                                           .qkv_bias = options.qkv_bias,
                                           .dropout = options.drop_rate,
                                           .attention_dropout = options.attn_drop_rate},
                             .drop_path = rates[static_cast<std::size_t>(first + j)]};
    block.mlp_hidden = static_cast<std::int64_t>(static_cast<double>(channels) * options.mlp_ratio);
    stage.blocks.emplace_back(block);
  }
  stage.norm = LayerNorm(8 * channels);
  stage.reduction = make_linear(8 * channels, 2 * channels, /*bias=*/false);

  const auto layer = std::make_shared<torch::nn::Module>("layer");
  layer->register_module("blocks", module_list(stage.blocks));
  const auto downsample = std::make_shared<torch::nn::Module>("patch_merging");
  downsample->register_module("reduction", stage.reduction);
  downsample->register_module("norm", stage.norm);
  layer->register_module("downsample", downsample);
  // The originals keep one layer in a list of its own.
  torch::nn::ModuleList layers;
  layers->push_back(layer);
  encoder.register_module(concat("layers", i + 1), layers);
  if (has_convolutions) {
    stage.convolutions = UnetrBasicBlock(channels, channels);
    torch::nn::ModuleList blocks;
    blocks->push_back(stage.convolutions);
    encoder.register_module(concat("layers", i + 1, "c"), blocks);
  }
  return stage;
}

WindowGrid SwinUnetrImpl::grid(const torch::Tensor& volume, bool shifted) const {
  WindowGrid grid;
  for (std::size_t axis = 0; axis < 3; ++axis) {
    const auto size = volume.size(static_cast<std::int64_t>(axis) + 1);
    const auto window = options_.window_size[axis];
    const bool whole = size <= window;
    grid.window[axis] = whole ? size : window;
    grid.shift[axis] = whole || !shifted ? 0 : window / 2;
  }
  return grid;
}

// [B, D, H, W, C] -> [B, D/2, H/2, W/2, 2 C].
torch::Tensor SwinUnetrImpl::merge(const Stage& stage, const torch::Tensor& volume) const {
  auto norm = stage.norm;
  return linear(stage.reduction, norm(gather_neighbours(volume, options_.merging)));
}

torch::Tensor SwinUnetrImpl::stage(std::size_t i, torch::Tensor volume) {
  auto& stage = stages_[i];
  for (std::size_t j = 0; j < stage.blocks.size(); ++j) {
    volume = stage.blocks[j](volume, grid(volume, /*shifted=*/j % 2 == 1));
  }
  return merge(stage, volume);
}

// What the decoder gets: [B, D, H, W, C] -> [B, C, D, H, W].
torch::Tensor SwinUnetrImpl::hidden(const torch::Tensor& volume, torch::MemoryFormat format) const {
  const auto normal = options_.normalize ? last_axis_norm(volume, {}, {}) : volume;
  return normal.permute({0, 4, 1, 2, 3}).contiguous(format);
}

std::vector<torch::Tensor> SwinUnetrImpl::compute(torch::Tensor input, bool) {
  const auto format = input.suggest_memory_format();
  const auto channels_last = [](const torch::Tensor& x) {
    return x.permute({0, 2, 3, 4, 1}).contiguous();
  };
  // x_0 .. x_4, their channels last.
  auto embedded = channels_last(patch_embed_->forward(input));
  if (!patch_norm_.is_empty()) embedded = patch_norm_(embedded);
  embedded = torch::dropout(embedded, options_.drop_rate, is_training());
  auto features = moved(std::move(embedded));
  for (std::size_t i = 0; i < kStages; ++i) {
    features.push_back(run_part(concat("stage", i + 1),
                                [this, i, format, channels_last](Tensors x) {
                                  auto volume = std::move(x[0]);
                                  if (auto& convolutions = stages_[i].convolutions;
                                      !convolutions.is_empty()) {
                                    volume = volume.permute({0, 4, 1, 2, 3}).contiguous(format);
                                    volume = channels_last(convolutions(std::move(volume)));
                                  }
                                  return stage(i, std::move(volume));
                                },
                                {features[i]}));
  }
  // A skip is made where it is used and each feature dropped after its last use.
  const auto encoded = [&](std::size_t encoder, torch::Tensor feature) {
    return run_part(
        kEncoders[encoder],
        [this, encoder, format](Tensors x) {
          if (encoder > 0) x[0] = hidden(x[0], format);
          return encoders_[encoder](std::move(x[0]));
        },
        moved(std::move(feature)));
  };
  auto decoded = encoded(4, std::move(features[4]));
  for (auto i = decoders_.size(); i-- > 0;) {
    auto skip = i == 4 ? hidden(std::exchange(features[3], {}), format)
                // NOLINTNEXTLINE(bugprone-use-after-move): in the last turn
                : i == 0 ? encoded(0, std::move(input))
                         : encoded(i, std::move(features[i - 1]));
    decoded = run_part(
        concat("decoder", i + 1),
        [this, i](Tensors x) { return decoders_[i](std::move(x[0]), std::move(x[1])); },
        moved(std::move(decoded), std::move(skip)));
  }
  return {out_(decoded)};
}

std::vector<std::string> SwinUnetrImpl::parts() const {
  std::vector<std::string> names;
  for (std::size_t i = 0; i < kStages; ++i) names.push_back(concat("stage", i + 1));
  names.emplace_back(kEncoders[4]);
  for (auto i = decoders_.size(); i-- > 0;) {
    if (i < 4) names.emplace_back(kEncoders[i]);
    names.push_back(concat("decoder", i + 1));
  }
  return names;
}

}  // namespace segmamba::nn
