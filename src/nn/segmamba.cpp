#include "segmamba/nn/segmamba.h"

#include <algorithm>
#include <utility>

#include "module_list.h"
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

using Tensors = std::vector<torch::Tensor>;

// An initialiser list would hold on to the tensors.
template <class... Tensor>
Tensors moved(Tensor&&... tensors) {
  Tensors list;
  (list.push_back(std::move(tensors)), ...);
  return list;
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
  // Made last: with and without it the other modules start from the same random numbers.
  if (config.deep_supervision && stages > 1) {
    for (std::size_t i = 1; i < stages; ++i) deep_outs.emplace_back(widths[i], config.out_channels);
    register_module("deep_outs", module_list(deep_outs));
  }
}

torch::Tensor SegMambaImpl::forward(const torch::Tensor& input) { return run(input, nullptr); }

std::vector<torch::Tensor> SegMambaImpl::forward_deep(const torch::Tensor& input) {
  std::vector<torch::Tensor> outputs;
  auto logits = run(input, &outputs);
  outputs.push_back(std::move(logits));
  std::reverse(outputs.begin(), outputs.end());
  return outputs;
}

torch::Tensor SegMambaImpl::run(const torch::Tensor& input, std::vector<torch::Tensor>* coarser) {
  check_input(input);
  const auto stages = decoder_blocks.size();
  const auto format = torch::MemoryFormat::ChannelsLast3d;
  Tensors features = {inference_type() ? input.to(*inference_type(), /*non_blocking=*/false,
                                                  /*copy=*/false, format)
                                       : input};
  for (std::size_t i = 0; i < stages; ++i) {
    features.push_back(run_part(
        concat("stage", i + 1),
        [this, i](Tensors x) { return encoder->stage(static_cast<std::int64_t>(i), x[0]); },
        {features[i]}));
  }
  // A skip is made where it is used and each feature dropped after its last use: at full resolution
  // these are the largest tensors of the network.
  const auto skip = [&](std::size_t i) {
    return run_part(
        concat("encoder", i + 1),
        [this, i](Tensors x) {
          if (i > 0) x[0] = encoder->output(static_cast<std::int64_t>(i) - 1, x[0]);
          return encoder_blocks[i](std::move(x[0]));
        },
        moved(std::move(features[i])));
  };
  auto decoded = skip(stages);
  for (auto i = stages; i-- > 0;) {
    decoded = run_part(
        concat("decoder", i + 2),
        [this, i](Tensors x) { return decoder_blocks[i](std::move(x[0]), std::move(x[1])); },
        moved(std::move(decoded), skip(i)));
    if (coarser != nullptr && !deep_outs.empty() && i > 0) {
      coarser->push_back(deep_outs[i - 1](decoded));
    }
  }
  decoded = run_part(
      "decoder1", [this](Tensors x) { return decoder1(std::move(x[0])); },
      moved(std::move(decoded)));
  auto logits = out(decoded);
  return inference_type() ? logits.to(input.scalar_type()).contiguous() : logits;
}

std::vector<std::string> SegMambaImpl::parts() const {
  std::vector<std::string> names;
  const auto stages = decoder_blocks.size();
  for (std::size_t i = 0; i < stages; ++i) names.push_back(concat("stage", i + 1));
  names.push_back(concat("encoder", stages + 1));
  for (auto i = stages; i-- > 0;) {
    names.push_back(concat("encoder", i + 1));
    names.push_back(concat("decoder", i + 2));
  }
  names.emplace_back("decoder1");
  return names;
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
