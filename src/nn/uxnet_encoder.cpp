#include "segmamba/nn/uxnet_encoder.h"

#include <numeric>

#include "module_list.h"
#include "segmamba/core/text.h"
#include "segmamba/nn/drop_path.h"
#include "segmamba/nn/mlp.h"

namespace segmamba::nn {

UxBlockImpl::UxBlockImpl(std::int64_t channels, double drop_path) : drop_path_(drop_path) {
  constexpr double kInitialGamma = 1e-6;
  const auto convolution = [channels](std::int64_t in, std::int64_t out, std::int64_t kernel) {
    return Convolution(
        torch::nn::Conv3dOptions(in, out, kernel).padding(kernel / 2).groups(channels));
  };
  dwconv = register_module("dwconv", convolution(channels, channels, 7));
  norm = register_module("norm", ChannelLayerNorm(channels));
  pwconv1 = register_module("pwconv1", convolution(channels, 4 * channels, 1));
  pwconv2 = register_module("pwconv2", convolution(4 * channels, channels, 1));
  gamma = register_parameter("gamma", torch::full({channels}, kInitialGamma));
}

torch::Tensor UxBlockImpl::forward(const torch::Tensor& input) {
  const auto branch = gelu_product(pwconv1(norm(dwconv(input))),
                                   [this](const torch::Tensor& hidden) { return pwconv2(hidden); });
  const auto scale = gamma.to(branch.scalar_type()).view({-1, 1, 1, 1});
  return input + drop_path(branch * scale, drop_path_, is_training());
}

UxNetEncoderImpl::UxNetEncoderImpl(std::int64_t in_channels, const UxNetOptions& options)
    : Encoder(static_cast<std::int64_t>(options.feat_size.size())) {
  const auto rates = drop_path_rates(
      options.drop_path_rate,
      std::accumulate(options.depths.begin(), options.depths.end(), std::int64_t{0}));
  auto rate = rates.begin();
  for (std::size_t i = 0; i < options.feat_size.size(); ++i) {
    const auto dim = options.feat_size[i];
    downsample_layers_.push_back(layer_norm_downsampling(in_channels, options.feat_size, i));
    torch::nn::Sequential stage;
    for (std::int64_t j = 0; j < options.depths[i]; ++j) stage->push_back(UxBlock(dim, *rate++));
    stages_.push_back(stage);
    norms_.push_back(register_module(concat("norm", i), ChannelLayerNorm(dim)));
  }
  register_module("downsample_layers", module_list(downsample_layers_));
  register_module("stages", module_list(stages_));
}

torch::Tensor UxNetEncoderImpl::stage(std::int64_t i, const torch::Tensor& input) {
  return stages_[i]->forward(downsample_layers_[i]->forward(input));
}

torch::Tensor UxNetEncoderImpl::output(std::int64_t i, const torch::Tensor& feature) {
  return norms_[i](feature);
}

}  // namespace segmamba::nn
