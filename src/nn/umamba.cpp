#include "segmamba/nn/umamba.h"

#include <utility>

#include "config_checks.h"
#include "module_list.h"
#include "segmamba/nn/mamba_layer.h"

namespace segmamba::nn {
namespace {

constexpr Axes kOnes = {1, 1, 1};

class FirstBlock : public UnetBlock {
 public:
  // Its convolutions have biases whatever `options` says.
  explicit FirstBlock(ConvUnitOptions options) {
    options.bias = true;
    auto second = options, third = options;
    second.in_channels = options.out_channels;
    second.stride = kOnes;
    third.kernel = kOnes;
    conv1_ = register_module("conv1", unet_convolution(options));
    norm1_ = register_module("norm1", AffineInstanceNorm(options.out_channels, options.affine));
    conv2_ = register_module("conv2", unet_convolution(second));
    norm2_ = register_module("norm2", AffineInstanceNorm(options.out_channels, options.affine));
    conv3_ = register_module("conv3", unet_convolution(third));
  }

  torch::Tensor forward(torch::Tensor input) override {
    constexpr double kSlope = 0.01;
    auto output = norm1_(conv1_(input), ops::AfterNorm{.slope = kSlope});
    output = conv2_(output);
    ops::AfterNorm after{.slope = kSlope};
    after.shortcut = conv3_(input);
    input.reset();
    return norm2_(std::move(output), std::move(after));
  }

 private:
  Convolution conv1_{nullptr}, conv2_{nullptr}, conv3_{nullptr};
  AffineInstanceNorm norm1_{nullptr}, norm2_{nullptr};
};

// `count` blocks, of which the first changes channels and resolution.
UnetBlocks stage_blocks(std::int64_t count, ConvUnitOptions first) {
  UnetBlocks blocks = {std::make_shared<FirstBlock>(first)};
  first.in_channels = first.out_channels;
  first.stride = kOnes;
  const auto rest = residual_units(count - 1, first);
  blocks.insert(blocks.end(), rest.begin(), rest.end());
  return blocks;
}

UnetUp nearest_up(std::int64_t in_channels, std::int64_t out_channels, const Axes& stride,
                  bool /*bias*/) {
  const auto module = std::make_shared<torch::nn::Module>();
  const auto conv = module->register_module(
      "conv", unet_convolution(
                  {.in_channels = in_channels, .out_channels = out_channels, .kernel = kOnes}));
  // A 1^3 convolution gives copies of a voxel the same: before them, it has less to do.
  return {module, [conv, stride](torch::Tensor input, torch::Tensor skip) {
            input = conv->forward(input);
            const Axes sizes = {stride[0] * input.size(2), stride[1] * input.size(3),
                                stride[2] * input.size(4)};
            input = torch::upsample_nearest3d(input, sizes);
            return torch::cat({std::move(input), std::move(skip)}, 1);
          }};
}

UnetPlan plan_of(const ModelConfig& config) {
  auto plan = unet_plan(config.umamba);
  const auto stages = plan.stages.size();
  for (auto s = (stages + 1) / 2; s < stages; ++s) {
    plan.stages[s].blocks = 1;
    if (s + 1 < stages) plan.decoder_blocks[s] = 1;
  }
  return plan;
}

MambaLayer mamba_layer(std::int64_t dim, bool scans_channels) {
  return MambaLayer(MambaLayerOptions{.mamba = {.dim = dim, .directions = {Direction::kForward}},
                                      .residual = false,
                                      .scans_channels = scans_channels,
                                      .float32 = true});
}

}  // namespace

InputSizes UMambaImpl::input_sizes(const ModelConfig& config) {
  auto sizes = plan_of(config).input_sizes();
  if (config.name != "umamba_enc") return sizes;
  const Axes exact = fixed_size(config.umamba.input_size, "input_size");
  if (const auto misfit = sizes.misfit(exact)) {
    throw Error(concat("model.input_size: ", join(exact, "x"), " does not fit: ", *misfit));
  }
  sizes.exact = exact;
  sizes.exact_key = "input_size";
  return sizes;
}

UMambaImpl::UMambaImpl(const ModelConfig& config) : UnetImpl(config, input_sizes(config)) {
  const auto plan = plan_of(config);
  const bool in_every_stage = config.name == "umamba_enc";
  const auto& top = plan.stages[0];
  const auto stem = stage_blocks(top.blocks, {.in_channels = config.in_channels,
                                              .out_channels = top.channels,
                                              .kernel = top.kernel,
                                              .bias = plan.bias,
                                              .affine = plan.affine});
  torch::nn::ModuleList stages, mamba_layers;
  auto channels = top.channels;
  auto voxels = in_every_stage ? config.umamba.input_size : std::vector<std::int64_t>{};
  for (std::size_t s = 0; s < plan.stages.size(); ++s) {
    const auto& stage = plan.stages[s];
    const auto blocks = stage_blocks(stage.blocks, {.in_channels = channels,
                                                    .out_channels = stage.channels,
                                                    .kernel = stage.kernel,
                                                    .stride = stage.stride,
                                                    .bias = plan.bias,
                                                    .affine = plan.affine});
    channels = stage.channels;
    stages->push_back(module_list(blocks));
    encoder_.push_back({block_part(concat("stage", s), blocks)});
    if (s == 0) encoder_[0].insert(encoder_[0].begin(), block_part("stem", stem));
    if (!in_every_stage && s + 1 < plan.stages.size()) continue;
    std::int64_t count = 1;
    if (in_every_stage) {
      for (std::size_t axis = 0; axis < 3; ++axis) count *= voxels[axis] /= stage.stride[axis];
    }
    const bool scans_channels = in_every_stage && count <= channels;
    auto layer = mamba_layer(scans_channels ? count : channels, scans_channels);
    mamba_layers->push_back(layer);
    encoder_.back().push_back(
        {concat("mamba", s), [layer](Tensors x) mutable { return layer(x[0]); }});
  }
  const auto encoder = register_module("encoder", std::make_shared<torch::nn::Module>());
  encoder->register_module("stem", module_list(stem));
  encoder->register_module("stages", stages);
  if (in_every_stage) {
    encoder->register_module("mamba_layers", mamba_layers);
  } else {
    register_module("mamba_layer", mamba_layers->ptr(0));
  }
  make_decoder(config, plan, {"upsample_layers", nearest_up, stage_blocks, ""});
  init_he(*this);
}

}  // namespace segmamba::nn
