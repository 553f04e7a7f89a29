#include "segmamba/nn/paper_encoder.h"

#include "module_list.h"
#include "segmamba/core/error.h"
#include "segmamba/core/text.h"
#include "segmamba/nn/linear.h"
#include "segmamba/nn/mlp.h"
#include "segmamba/nn/norms.h"
#include "segmamba/nn/tokens.h"

namespace segmamba::nn {

PaperBlockImpl::PaperBlockImpl(const PaperBlockOptions& options) {
  const auto dim = options.mamba.dim;
  norm1 = register_module("norm1", LayerNorm(dim));
  mamba = register_module("mamba", Mamba(options.mamba));
  norm2 = register_module("norm2", LayerNorm(dim));
  fc1 = register_module("fc1", make_linear(dim, options.mlp_ratio * dim));
  fc2 = register_module("fc2", make_linear(options.mlp_ratio * dim, dim));
}

torch::Tensor PaperBlockImpl::forward(const torch::Tensor& input) {
  auto tokens = volume_to_tokens(input);
  tokens = mamba(norm1(tokens), /*slices=*/input.size(2)) + tokens;
  tokens = gelu_product(linear(fc1, norm2(tokens)),
                        [this](const torch::Tensor& hidden) { return linear(fc2, hidden); }) +
           tokens;
  return tokens_to_volume(tokens, input);
}

PaperEncoderImpl::PaperEncoderImpl(const ModelConfig& config)
    : Encoder(static_cast<std::int64_t>(config.segmamba.dims.size())) {
  if (config.segmamba.dims[0] % config.in_channels != 0) {
    throw Error(
        concat("model.in_channels: the depth-wise stem of the encoder `paper` needs a "
               "divisor of model.dims[0] = ",
               config.segmamba.dims[0], ", got ", config.in_channels));
  }
  std::vector<Direction> directions;
  for (const auto& name : config.segmamba.directions) directions.push_back(parse_direction(name));

  for (std::size_t i = 0; i < config.segmamba.dims.size(); ++i) {
    const auto dim = config.segmamba.dims[i];
    torch::nn::Sequential downsample;
    if (i == 0) {
      downsample->push_back(stem_convolution(config.in_channels, dim, config.in_channels));
    } else {
      const auto before = config.segmamba.dims[i - 1];
      if (config.segmamba.downsample_norm == "layer") {
        downsample->push_back("norm", ChannelLayerNorm(before));
      } else if (config.segmamba.downsample_norm == "instance") {
        downsample->push_back(
            "norm", torch::nn::Functional([](const torch::Tensor& x) { return instance_norm(x); }));
      } else if (config.segmamba.downsample_norm != "none") {
        throw Error("model.downsample_norm: \"" + config.segmamba.downsample_norm +
                    "\" is none of layer, instance, none");
      }
      downsample->push_back("conv", downsample_convolution(before, dim));
    }
    downsample_layers_.push_back(downsample);
    torch::nn::Sequential stage;
    for (std::int64_t j = 0; j < config.segmamba.depths[i]; ++j) {
      stage->push_back(PaperBlock(PaperBlockOptions{.mamba = {.dim = dim, .directions = directions},
                                                    .mlp_ratio = config.segmamba.mlp_ratio}));
    }
    stages_.push_back(stage);
  }
  register_module("downsample_layers", module_list(downsample_layers_));
  register_module("stages", module_list(stages_));
}

torch::Tensor PaperEncoderImpl::stage(std::int64_t i, const torch::Tensor& input) {
  return stages_[i]->forward(downsample_layers_[i]->forward(input));
}

torch::Tensor PaperEncoderImpl::output(std::int64_t /*i*/, const torch::Tensor& feature) {
  return feature;
}

}  // namespace segmamba::nn
