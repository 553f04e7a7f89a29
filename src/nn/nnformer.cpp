#include "segmamba/nn/nnformer.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "config_checks.h"
#include "module_list.h"
#include "segmamba/nn/drop_path.h"

namespace segmamba::nn {
namespace {

constexpr std::int64_t kPatch = 4, kMlpRatio = 4;
constexpr std::size_t kStages = 4;

std::array<std::int64_t, 3> crop_size(const ModelConfig& config) {
  return fixed_size(config.nnformer.crop_size, "crop_size", kPatch << (kStages - 1));
}

Convolution convolution(std::int64_t in_channels, std::int64_t out_channels, std::int64_t stride) {
  return Convolution(
      torch::nn::Conv3dOptions(in_channels, out_channels, 3).stride(stride).padding(1));
}

torch::Tensor channels_last(const torch::Tensor& x) { return x.permute({0, 2, 3, 4, 1}); }
torch::Tensor channels_first(const torch::Tensor& x) { return x.permute({0, 4, 1, 2, 3}); }

// With as many taps an axis as its stride, and bias.
UpConvolution expansion(std::int64_t in_channels, std::int64_t out_channels, std::int64_t taps) {
  return UpConvolution(in_channels, out_channels, std::array<std::int64_t, 3>{taps, taps, taps},
                       /*bias=*/true);
}

// Of a stage's blocks, whose rates rise from one to the next.
std::vector<double> rates_of(const NnFormerOptions& options, std::size_t stage, bool decodes) {
  const auto& depths = options.depths;
  const auto begin = depths.begin() + static_cast<std::ptrdiff_t>(stage);
  // The decoder's rates rise from its coarsest stage to its finest; the encoder's last stage has no
  // counterpart in it.
  const auto count = std::accumulate(depths.begin(), depths.end() - (decodes ? 1 : 0), 0L);
  const auto before = decodes ? std::accumulate(begin + 1, depths.end() - 1, 0L)
                              : std::accumulate(depths.begin(), begin, 0L);
  const auto rates = drop_path_rates(options.drop_path_rate, count);
  const auto first = rates.begin() + before;
  return {first, first + *begin};
}

void check_config(const NnFormerOptions& options) {
  if (options.embedding_dim % 2 != 0) {
    throw Error(
        concat("model.embedding_dim: must be even, as the first convolutions have half of "
               "it, got ",
               options.embedding_dim));
  }
  for (std::size_t i = 0; i < kStages; ++i) {
    const auto check = [&](std::int64_t channels, const char* where, std::size_t stage) {
      if (channels % options.num_heads[i] == 0) return;
      throw Error(concat("model.num_heads: ", options.num_heads[i], ", entry ", i,
                         ", must divide the ", channels, " channels of stage ", stage, " of the ",
                         where));
    };
    check(options.embedding_dim << i, "encoder", i);
    if (i > 0) check(options.embedding_dim << (i - 1), "decoder", i - 1);
  }
}

}  // namespace

InputSizes NnFormerImpl::input_sizes(const ModelConfig& config) {
  constexpr auto kMultiple = kPatch << (kStages - 1);
  return {.multiple = {kMultiple, kMultiple, kMultiple},
          .exact = crop_size(config),
          .exact_key = "crop_size"};
}

NnFormerImpl::NnFormerImpl(const ModelConfig& config)
    : SegmentationModel(input_sizes(config), config.in_channels),
      options_(config.nnformer),
      size_(crop_size(config)) {
  check_config(options_);
  for (auto& size : size_) size /= kPatch;
  make_encoder(config.in_channels);
  make_decoder();
  torch::nn::ModuleList finals;
  const auto outputs = config.deep_supervision ? kStages - 1 : 1;
  for (std::size_t i = 0; i < outputs; ++i) {
    heads_.push_back(expansion(options_.embedding_dim << i, config.out_channels, kPatch));
    const auto head = std::make_shared<torch::nn::Module>("final");
    head->register_module("up", heads_.back());
    finals->push_back(head);
  }
  register_module("final", finals);
}

std::shared_ptr<torch::nn::Module> NnFormerImpl::make_embedding(std::int64_t in_channels) {
  auto module = std::make_shared<torch::nn::Module>("patch_embedding");
  const auto width = options_.embedding_dim;
  for (std::size_t i = 0; i < embedding_.size(); ++i) {
    const auto channels = i == 0 ? width / 2 : width;
    auto& pair = embedding_[i];
    const auto unit = std::make_shared<torch::nn::Module>("projection");
    pair.conv1 = unit->register_module(
        "conv1", convolution(i == 0 ? in_channels : width / 2, channels, /*stride=*/2));
    pair.conv2 = unit->register_module("conv2", convolution(channels, channels, /*stride=*/1));
    pair.norm1 = unit->register_module("norm1", LayerNorm(channels));
    if (i == 0) pair.norm2 = unit->register_module("norm2", LayerNorm(channels));
    module->register_module(concat("proj", i + 1), unit);
  }
  embedding_norm_ = module->register_module("norm", LayerNorm(width));
  return module;
}

void NnFormerImpl::make_encoder(std::int64_t in_channels) {
  const auto module = std::make_shared<torch::nn::Module>("encoder");
  module->register_module("patch_embed", make_embedding(in_channels));
  encoder_.resize(kStages);
  torch::nn::ModuleList layers;
  for (std::size_t i = 0; i < kStages; ++i) {
    const auto channels = options_.embedding_dim << i;
    auto& stage = encoder_[i];
    stage.blocks = make_blocks(i, /*decodes=*/false);
    const auto layer = std::make_shared<torch::nn::Module>("layer");
    layer->register_module("blocks", module_list(stage.blocks));
    if (i + 1 < kStages) {
      // In the original, this stage's; here, the next one begins with it.
      const auto downsample = std::make_shared<torch::nn::Module>("patch_merging");
      auto& next = encoder_[i + 1];
      next.down = downsample->register_module("reduction", convolution(channels, 2 * channels, 2));
      next.resampling_norm = downsample->register_module("norm", LayerNorm(channels));
      layer->register_module("downsample", downsample);
    }
    layers->push_back(layer);
    stage.skip_norm = module->register_module(concat("norm", i), LayerNorm(channels));
  }
  module->register_module("layers", layers);
  register_module("model_down", module);
}

void NnFormerImpl::make_decoder() {
  const auto module = std::make_shared<torch::nn::Module>("decoder");
  decoder_.resize(kStages - 1);
  torch::nn::ModuleList layers;
  for (std::size_t i = 0; i < decoder_.size(); ++i) {
    const auto channels = options_.embedding_dim << i;
    auto& stage = decoder_[i];
    stage.blocks = make_blocks(i, /*decodes=*/true);
    const auto layer = std::make_shared<torch::nn::Module>("layer");
    layer->register_module("blocks", module_list(stage.blocks));
    const auto upsample = std::make_shared<torch::nn::Module>("patch_expanding");
    stage.resampling_norm = upsample->register_module("norm", LayerNorm(2 * channels));
    stage.up = upsample->register_module("up", expansion(2 * channels, channels, 2));
    layer->register_module("Upsample", upsample);
    layers->push_back(layer);
  }
  module->register_module("layers", layers);
  register_module("decoder", module);
}

std::vector<WindowBlock> NnFormerImpl::make_blocks(std::size_t stage, bool decodes) const {
  const auto channels = options_.embedding_dim << stage;
  const auto window = grid(stage, /*shifted=*/false).window;
  const auto rates = rates_of(options_, stage, decodes);
  std::vector<WindowBlock> blocks;
  for (std::size_t j = 0; j < rates.size(); ++j) {
    blocks.emplace_back(WindowBlockOptions{
        .attention = {.channels = channels,
                      .heads = options_.num_heads[decodes ? stage + 1 : stage],
                      .window = window,
                      // The original's: 3 window - 1 in place of (2 window - 1)^2.
                      .factors = {3 * window[0] - 1, 2 * window[0] - 1, 1},
                      .cross = decodes && j == 0},
        .mlp_hidden = kMlpRatio * channels,
        .mlp_names = kSwinMlpNames,
        .drop_path = rates[j]});
  }
  return blocks;
}

WindowGrid NnFormerImpl::grid(std::size_t stage, bool shifted) const {
  const auto shortest = *std::min_element(size_.begin(), size_.end()) >> stage;
  const auto window = options_.window_size[stage];
  const bool whole = shortest <= window;
  const auto side = whole ? shortest : window, shift = whole || !shifted ? 0 : window / 2;
  return {.window = {side, side, side}, .shift = {shift, shift, shift}};
}

torch::Tensor NnFormerImpl::embed(torch::Tensor image) {
  for (auto& pair : embedding_) {
    image = pair.norm1(torch::gelu(channels_last(pair.conv1(image))));
    image = pair.conv2(channels_first(image));
    if (pair.norm2.is_empty()) break;
    image = channels_first(pair.norm2(torch::gelu(channels_last(image))));
  }
  return embedding_norm_(channels_last(image));
}

torch::Tensor NnFormerImpl::encode(std::size_t i, torch::Tensor volume) {
  auto& stage = encoder_[i];
  if (!stage.down.is_empty()) {
    volume = stage.resampling_norm(torch::gelu(volume));
    volume = channels_last(stage.down(channels_first(volume)));
  }
  for (std::size_t j = 0; j < stage.blocks.size(); ++j) {
    volume = stage.blocks[j](volume, grid(i, /*shifted=*/j % 2 == 1));
  }
  return volume;
}

torch::Tensor NnFormerImpl::decode(std::size_t i, const torch::Tensor& volume,
                                   const torch::Tensor& skip) {
  auto& stage = decoder_[i];
  const auto up = channels_last(stage.up(channels_first(stage.resampling_norm(volume))));
  auto decoded = stage.blocks[0]->forward_across(up, encoder_[i].skip_norm(skip), grid(i, false));
  for (std::size_t j = 1; j < stage.blocks.size(); ++j) {
    decoded = stage.blocks[j](decoded, grid(i, /*shifted=*/true));
  }
  return decoded;
}

std::vector<torch::Tensor> NnFormerImpl::compute(torch::Tensor input, bool deep) {
  auto feature = run_part(
      "embedding", [this](Tensors x) { return embed(std::move(x[0])); }, moved(std::move(input)));
  Tensors features;
  for (std::size_t i = 0; i < kStages; ++i) {
    feature = run_part(
        concat("encoder", i), [this, i](Tensors x) { return encode(i, std::move(x[0])); },
        moved(std::move(feature)));
    features.push_back(feature);
  }
  feature = encoder_.back().skip_norm(feature);
  features.pop_back();
  Tensors outputs;  // the coarsest first
  for (auto i = decoder_.size(); i-- > 0;) {
    feature = run_part(
        concat("decoder", i), [this, i](Tensors x) { return decode(i, x[0], x[1]); },
        moved(std::move(feature), std::move(features[i])));
    if (i == 0 || (deep && i < heads_.size())) {
      outputs.push_back(heads_[i](channels_first(feature)).contiguous());
    }
  }
  std::reverse(outputs.begin(), outputs.end());
  return outputs;
}

std::vector<std::string> NnFormerImpl::parts() const {
  std::vector<std::string> names = {"embedding"};
  for (std::size_t i = 0; i < kStages; ++i) names.push_back(concat("encoder", i));
  for (auto i = decoder_.size(); i-- > 0;) names.push_back(concat("decoder", i));
  return names;
}

}  // namespace segmamba::nn
