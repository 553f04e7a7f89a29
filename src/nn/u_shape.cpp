#include "segmamba/nn/u_shape.h"

#include <algorithm>
#include <utility>

#include "module_list.h"
#include "segmamba/core/text.h"

namespace segmamba::nn {

std::vector<std::int64_t> u_shape_widths(std::vector<std::int64_t> stages, std::int64_t bottom) {
  stages.push_back(bottom);
  return stages;
}

InputSizes u_shape_input_sizes(std::size_t stages) {
  const auto multiple = std::int64_t{1} << stages;
  return {.multiple = {multiple, multiple, multiple}, .norms_coarsest = true};
}

UShapedModel::UShapedModel(const ModelConfig& config, InputSizes input_sizes, const Parts& parts)
    : SegmentationModel(input_sizes, config.in_channels), encoder(parts.encoder) {
  register_module(parts.encoder_name, encoder);
  // Of e_0 .. e_n and of the decoder's features d_0 .. d_n beside them.
  const auto& widths = parts.widths;
  const auto stages = widths.size() - 1;
  for (std::size_t i = 0; i <= stages; ++i) {
    const auto in_channels = i == 0 ? config.in_channels : widths[i - 1];
    encoder_blocks.push_back(register_module(
        concat("encoder", i + 1), UnetrBasicBlock(in_channels, widths[i], parts.blocks)));
  }
  for (std::size_t i = 0; i < stages; ++i) {
    decoder_blocks.push_back(register_module(concat("decoder", i + 2),
                                             UnetrUpBlock(widths[i + 1], widths[i], parts.blocks)));
  }
  decoder1 = register_module("decoder1", UnetrBasicBlock(widths[0], widths[0], parts.blocks));
  out = register_module("out", UnetrOutBlock(widths[0], config.out_channels));
  // Made last: with and without it the other modules start from the same random numbers.
  if (config.deep_supervision && stages > 1) {
    for (std::size_t i = 1; i < stages; ++i) deep_outs.emplace_back(widths[i], config.out_channels);
    register_module("deep_outs", module_list(deep_outs));
  }
}

std::vector<torch::Tensor> UShapedModel::compute(torch::Tensor input, bool deep) {
  const auto stages = decoder_blocks.size();
  auto features = moved(std::move(input));
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
  Tensors outputs;  // the coarsest first
  auto decoded = skip(stages);
  for (auto i = stages; i-- > 0;) {
    decoded = run_part(
        concat("decoder", i + 2),
        [this, i](Tensors x) { return decoder_blocks[i](std::move(x[0]), std::move(x[1])); },
        moved(std::move(decoded), skip(i)));
    if (deep && !deep_outs.empty() && i > 0) outputs.push_back(deep_outs[i - 1](decoded));
  }
  decoded = run_part(
      "decoder1", [this](Tensors x) { return decoder1(std::move(x[0])); },
      moved(std::move(decoded)));
  outputs.push_back(out(decoded));
  std::reverse(outputs.begin(), outputs.end());
  return outputs;
}

std::vector<std::string> UShapedModel::parts() const {
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

}  // namespace segmamba::nn
