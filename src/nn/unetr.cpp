#include "segmamba/nn/unetr.h"

#include <algorithm>
#include <utility>

#include "config_checks.h"
#include "segmamba/nn/tokens.h"

namespace segmamba::nn {
namespace {

constexpr auto kPatch = VitImpl::kPatch;

std::array<std::int64_t, 3> image_size(const ModelConfig& config) {
  return fixed_size(config.unetr.img_size, "img_size", kPatch);
}

// The blocks whose outputs encoder2, encoder3 and encoder4 take.
constexpr std::array<std::size_t, 3> kTapped = {3, 6, 9};

}  // namespace

InputSizes UnetrImpl::input_sizes(const ModelConfig& config) {
  return {
      .multiple = {kPatch, kPatch, kPatch}, .exact = image_size(config), .exact_key = "img_size"};
}

UnetrImpl::UnetrImpl(const ModelConfig& config)
    : SegmentationModel(input_sizes(config), config.in_channels), grid_(image_size(config)) {
  const auto& options = config.unetr;
  refuse_deep_supervision(config.deep_supervision, config.name);
  if (options.hidden_size % options.num_heads != 0) {
    throw Error(concat("model.num_heads: must divide model.hidden_size = ", options.hidden_size,
                       ", got ", options.num_heads));
  }
  for (auto& size : grid_) size /= kPatch;
  vit_ = register_module("vit", Vit(VitOptions{.in_channels = config.in_channels,
                                               .grid = grid_,
                                               .hidden_size = options.hidden_size,
                                               .mlp_dim = options.mlp_dim,
                                               .num_heads = options.num_heads,
                                               .perceptron = options.proj_type == "perceptron",
                                               .qkv_bias = options.qkv_bias,
                                               .dropout = options.dropout_rate}));
  const UnetrBlockOptions blocks{.residual = options.res_block,
                                 .affine = options.norm_affine,
                                 .convolves = options.conv_block};
  const auto width = [&](std::size_t level) { return options.feature_size << level; };
  encoder1_ = register_module("encoder1", UnetrBasicBlock(config.in_channels, width(0), blocks));
  for (std::size_t i = 1; i <= kTapped.size(); ++i) {
    projections_.push_back(
        register_module(concat("encoder", i + 1),
                        UnetrProjectionUpBlock(options.hidden_size, width(i),
                                               /*steps=*/4 - static_cast<int>(i), blocks)));
  }
  for (std::size_t i = 0; i <= kTapped.size(); ++i) {
    const auto below = i < kTapped.size() ? width(i + 1) : options.hidden_size;
    decoders_.push_back(
        register_module(concat("decoder", i + 2), UnetrUpBlock(below, width(i), blocks)));
  }
  out_ = register_module("out", UnetrOutBlock(width(0), config.out_channels));
}

std::vector<torch::Tensor> UnetrImpl::compute(torch::Tensor input, bool) {
  const auto format = input.suggest_memory_format();
  auto tokens = run_part("embedding", [this](Tensors x) { return vit_->embed(x[0]); }, {input});
  Tensors tapped;
  for (std::size_t i = 0; i < VitImpl::kBlocks; ++i) {
    tokens = run_part(
        concat("block", i), [this, i](Tensors x) { return vit_->block(i, x[0]); },
        moved(std::move(tokens)));
    if (std::find(kTapped.begin(), kTapped.end(), i) != kTapped.end()) tapped.push_back(tokens);
  }
  auto decoded = tokens_to_volume(vit_->last_norm(tokens), grid_, format);
  tokens.reset();
  // A skip is made where it is used.
  for (auto i = decoders_.size(); i-- > 0;) {
    auto skip = i == 0 ? run_part(
                             "encoder1", [this](Tensors x) { return encoder1_(std::move(x[0])); },
                             moved(std::move(input)))  // NOLINT(bugprone-use-after-move): last turn
                       : run_part(
                             concat("encoder", i + 1),
                             [this, i, format](Tensors x) {
                               return projections_[i - 1](tokens_to_volume(x[0], grid_, format));
                             },
                             moved(std::move(tapped[i - 1])));
    decoded = run_part(
        concat("decoder", i + 2),
        [this, i](Tensors x) { return decoders_[i](std::move(x[0]), std::move(x[1])); },
        moved(std::move(decoded), std::move(skip)));
  }
  return {out_(decoded)};
}

std::vector<std::string> UnetrImpl::parts() const {
  std::vector<std::string> names = {"embedding"};
  for (std::size_t i = 0; i < VitImpl::kBlocks; ++i) names.push_back(concat("block", i));
  for (auto i = decoders_.size(); i-- > 0;) {
    names.push_back(concat("encoder", i + 1));
    names.push_back(concat("decoder", i + 2));
  }
  return names;
}

}  // namespace segmamba::nn
