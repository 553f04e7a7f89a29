#include "segmamba/nn/segresnet.h"

#include "config_checks.h"
#include "module_list.h"
#include "segmamba/nn/chain.h"
#include "segmamba/nn/norms.h"
#include "segmamba/nn/pre_activation_block.h"

namespace segmamba::nn {
namespace {

using torch::nn::GroupNormOptions;

Chain convolution(std::int64_t in_channels, std::int64_t out_channels, std::int64_t kernel = 3,
                  std::int64_t stride = 1, bool bias = false) {
  return wrapped(Convolution(torch::nn::Conv3dOptions(in_channels, out_channels, kernel)
                                 .stride(stride)
                                 .padding(kernel / 2)
                                 .bias(bias)));
}

PreActivationBlock residual_block(std::int64_t channels, std::int64_t groups) {
  return PreActivationBlock(PreActivationBlockOptions{
      .channels = channels, .groups = groups, .wraps = true, .bias = false});
}

torch::Tensor upsample(const torch::Tensor& input) {
  return torch::upsample_trilinear3d(input, std::nullopt, /*align_corners=*/false,
                                     std::vector<double>{2, 2, 2});
}

}  // namespace

InputSizes SegResNetImpl::input_sizes(const ModelConfig& config) {
  const auto multiple = std::int64_t{1} << (config.segresnet.blocks_down.size() - 1);
  return {.multiple = {multiple, multiple, multiple}};
}

SegResNetImpl::SegResNetImpl(const ModelConfig& config)
    : SegmentationModel(input_sizes(config), config.in_channels),
      dropout_(config.segresnet.dropout_prob) {
  const auto& options = config.segresnet;
  refuse_deep_supervision(config.deep_supervision, config.name);
  const auto levels = options.blocks_down.size();
  if (options.blocks_up.size() + 1 != levels) {
    throw Error(concat("model.blocks_up needs one number less than model.blocks_down, got ",
                       options.blocks_up.size(), " and ", levels));
  }
  if (options.init_filters % options.num_groups != 0) {
    throw Error(concat("model.init_filters must be a multiple of model.num_groups, got ",
                       options.init_filters, " and ", options.num_groups));
  }
  const auto width = [&](std::size_t level) { return options.init_filters << level; };

  initial_ =
      Convolution(torch::nn::Conv3dOptions(config.in_channels, width(0), 3).padding(1).bias(false));
  register_module("convInit", wrapped(initial_));
  for (std::size_t i = 0; i < levels; ++i) {
    torch::nn::Sequential layer;
    // The first level has nothing to do here, and yet its place.
    if (i == 0) layer->push_back(torch::nn::Identity());
    if (i > 0) layer->push_back(convolution(width(i - 1), width(i), 3, /*stride=*/2));
    for (std::int64_t j = 0; j < options.blocks_down[i]; ++j) {
      layer->push_back(residual_block(width(i), options.num_groups));
    }
    down_layers_.push_back(layer);
  }
  for (std::size_t i = 0; i + 1 < levels; ++i) {
    const auto channels = width(levels - 2 - i);
    torch::nn::Sequential sample(convolution(2 * channels, channels, 1));
    if (options.upsample_mode == "deconv") {
      sample->push_back(
          Chain({{"deconv", UpConvolution(channels, channels, std::array<std::int64_t, 3>{2, 2, 2},
                                          /*bias=*/true)}}));
    } else {
      sample->push_back(torch::nn::Functional(upsample));
    }
    up_samples_.push_back(sample);
    torch::nn::Sequential layer;
    for (std::int64_t j = 0; j < options.blocks_up[i]; ++j) {
      layer->push_back(residual_block(channels, options.num_groups));
    }
    up_layers_.push_back(layer);
  }
  final_ = torch::nn::Sequential(GroupNorm(GroupNormOptions(options.num_groups, width(0))),
                                 torch::nn::ReLU(torch::nn::ReLUOptions(/*inplace=*/true)),
                                 convolution(width(0), config.out_channels, 1, 1, /*bias=*/true));
  register_module("down_layers", module_list(down_layers_));
  register_module("up_samples", module_list(up_samples_));
  register_module("up_layers", module_list(up_layers_));
  register_module("conv_final", final_);
}

std::vector<torch::Tensor> SegResNetImpl::compute(torch::Tensor input, bool) {
  auto feature = initial_->forward(input);
  input.reset();
  if (dropout_ > 0) feature = torch::feature_dropout(feature, dropout_, is_training());
  Tensors levels;
  for (std::size_t i = 0; i < down_layers_.size(); ++i) {
    feature = run_part(concat("down", i),
                       [this, i](Tensors x) { return down_layers_[i]->forward(x[0]); }, {feature});
    levels.push_back(feature);
  }
  levels.pop_back();
  for (std::size_t i = 0; i < up_layers_.size(); ++i) {
    feature = run_part(
        concat("up", i),
        [this, i](Tensors x) {
          return up_layers_[i]->forward(up_samples_[i]->forward(x[0]) + x[1]);
        },
        moved(std::move(feature), std::move(levels.back())));
    levels.pop_back();
  }
  return {final_->forward(feature)};
}

std::vector<std::string> SegResNetImpl::parts() const {
  std::vector<std::string> names;
  for (std::size_t i = 0; i < down_layers_.size(); ++i) names.push_back(concat("down", i));
  for (std::size_t i = 0; i < up_layers_.size(); ++i) names.push_back(concat("up", i));
  return names;
}

}  // namespace segmamba::nn
