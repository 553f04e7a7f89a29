#include "segmamba/nn/segmamba.h"

#include <algorithm>
#include <utility>

#include "segmamba/core/error.h"
#include "segmamba/core/text.h"

namespace segmamba::nn {
namespace {

void check_config(const ModelConfig& config) {
  const auto positive = [](const std::string& key, std::int64_t value) {
    if (value < 1) throw Error(concat("model.", key, " must be at least 1, got ", value));
  };
  if (config.dims.empty() || config.dims.size() != config.depths.size()) {
    throw Error(concat("model.dims and model.depths need one number a stage each, got ",
                       config.dims.size(), " and ", config.depths.size()));
  }
  for (const auto dim : config.dims) positive("dims", dim);
  for (const auto depth : config.depths) positive("depths", depth);
  positive("in_channels", config.in_channels);
  positive("out_channels", config.out_channels);
  positive("hidden_size", config.hidden_size);
  positive("mlp_ratio", config.mlp_ratio);
}

}  // namespace

SegMambaImpl::SegMambaImpl(const ModelConfig& config) : config_(config) {
  check_config(config);
  encoder = make_encoder(config);
  register_module(config.encoder == "tom" ? "vit" : "mamba_encoder", encoder);
  // Channels of e_0 .. e_n and of the decoder's features d_0 .. d_n beside them.
  auto widths = config.dims;
  widths.push_back(config.hidden_size);
  const auto stages = config.dims.size();
  for (std::size_t i = 0; i <= stages; ++i) {
    const auto in_channels = i == 0 ? config.in_channels : config.dims[i - 1];
    encoder_blocks.push_back(
        register_module(concat("encoder", i + 1), UnetrBasicBlock(in_channels, widths[i])));
  }
  for (std::size_t i = 0; i < stages; ++i) {
    decoder_blocks.push_back(
        register_module(concat("decoder", i + 2), UnetrUpBlock(widths[i + 1], widths[i])));
  }
  decoder1 = register_module("decoder1", UnetrBasicBlock(widths[0], widths[0]));
  out = register_module("out", UnetrOutBlock(widths[0], config.out_channels));
}

torch::Tensor SegMambaImpl::forward(const torch::Tensor& input) {
  check_input(input);
  auto features = encoder->forward(input);
  features.insert(features.begin(), input);
  // A skip is made where it is used and each feature dropped after its last use: at full resolution
  // these are the largest tensors of the network.
  const auto take = [&](std::size_t i) { return encoder_blocks[i](std::move(features[i])); };
  auto decoded = take(decoder_blocks.size());
  for (auto i = decoder_blocks.size(); i-- > 0;) {
    decoded = decoder_blocks[i](std::move(decoded), take(i));
  }
  return out(decoder1(std::move(decoded)));
}

std::int64_t SegMambaImpl::size_multiple() const { return std::int64_t{1} << config_.dims.size(); }

void SegMambaImpl::check_input(const torch::Tensor& input) const {
  if (input.dim() != 5 || input.size(1) != config_.in_channels) {
    throw Error(concat("input must have shape [B, ", config_.in_channels, ", D, H, W], got ",
                       input.sizes()));
  }
  const auto sizes = input.sizes().slice(2);
  const auto multiple = size_multiple();
  if (std::any_of(sizes.begin(), sizes.end(),
                  [multiple](auto size) { return size < 1 || size % multiple != 0; })) {
    throw Error(concat("input size ", join(sizes, "x"), " does not fit: each size must be a ",
                       "multiple of ", multiple));
  }
}

void SegMambaImpl::pretty_print(std::ostream& stream) const {
  stream << "SegMamba(encoder=" << config_.encoder << ", dims=[" << join(config_.dims, ", ")
         << "], hidden_size=" << config_.hidden_size << ")";
}

}  // namespace segmamba::nn
