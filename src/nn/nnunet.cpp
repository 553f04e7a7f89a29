#include "segmamba/nn/nnunet.h"

#include <algorithm>

#include "module_list.h"
#include "segmamba/core/text.h"

namespace segmamba::nn {
namespace {

// A module that is nothing but the place of another one.
template <class Child>
std::shared_ptr<torch::nn::Module> around(const std::string& name, const Child& child) {
  auto module = std::make_shared<torch::nn::Module>();
  module->register_module(name, child);
  return module;
}

ConvUnitOptions first_of_stage(const UnetPlan& plan, std::size_t stage, std::int64_t in_channels) {
  const auto& [channels, kernel, stride, blocks] = plan.stages[stage];
  return {.in_channels = in_channels,
          .out_channels = channels,
          .kernel = kernel,
          .stride = stride,
          .bias = plan.bias,
          .affine = plan.affine};
}

}  // namespace

UnetImpl::UnetImpl(const ModelConfig& config, InputSizes sizes)
    : SegmentationModel(sizes, config.in_channels), deep_(config.deep_supervision) {}

UnetImpl::Part UnetImpl::block_part(std::string name, UnetBlocks blocks) {
  return {std::move(name),
          [blocks = std::move(blocks)](Tensors x) { return run_blocks(blocks, std::move(x[0])); }};
}

void UnetImpl::make_decoder(const ModelConfig& config, const UnetPlan& plan,
                            const DecoderOptions& options) {
  torch::nn::ModuleList ups, stages, heads;
  for (std::size_t i = 0; i + 1 < plan.stages.size(); ++i) {
    const auto& below = plan.stages[plan.stages.size() - 1 - i];
    const auto& stage = plan.stages[plan.stages.size() - 2 - i];
    const auto up = options.up(below.channels, stage.channels, below.stride, plan.bias);
    const auto blocks = options.blocks(plan.decoder_blocks[i], {.in_channels = 2 * stage.channels,
                                                                .out_channels = stage.channels,
                                                                .kernel = stage.kernel,
                                                                .bias = plan.bias,
                                                                .affine = plan.affine});
    const Convolution head(torch::nn::Conv3dOptions(stage.channels, config.out_channels, 1));
    ups->push_back(up.module);
    if (*options.blocks_name == '\0') {
      stages->push_back(module_list(blocks));
    } else {
      stages->push_back(around(options.blocks_name, module_list(blocks)));
    }
    heads->push_back(head);
    if (!deep_ && i + 2 < plan.stages.size()) {
      for (auto& parameter : head->parameters()) parameter.requires_grad_(false);
    }
    decoder_.push_back({[beside = up.beside, blocks](Tensors x) {
                          return run_blocks(blocks, beside(std::move(x[0]), std::move(x[1])));
                        },
                        head});
  }
  const auto decoder = register_module("decoder", std::make_shared<torch::nn::Module>());
  decoder->register_module(options.ups, ups);
  decoder->register_module("stages", stages);
  decoder->register_module("seg_layers", heads);
}

std::vector<torch::Tensor> UnetImpl::compute(torch::Tensor input, bool deep) {
  Tensors features;  // what each stage of the encoder leaves
  auto feature = std::move(input);
  for (const auto& stage : encoder_) {
    for (const auto& part : stage) {
      feature = run_part(part.name, part.run, moved(std::move(feature)));
    }
    features.push_back(feature);
  }
  features.pop_back();
  Tensors outputs;  // the coarsest first
  for (std::size_t i = 0; i < decoder_.size(); ++i) {
    feature = run_part(concat("decoder", i), decoder_[i].run,
                       moved(std::move(feature), std::move(features.back())));
    features.pop_back();
    const bool is_last = i + 1 == decoder_.size();
    if (is_last || (deep && deep_)) outputs.push_back(decoder_[i].head(feature));
  }
  std::reverse(outputs.begin(), outputs.end());
  return outputs;
}

std::vector<std::string> UnetImpl::parts() const {
  std::vector<std::string> names;
  for (const auto& stage : encoder_) {
    for (const auto& part : stage) names.push_back(part.name);
  }
  for (std::size_t i = 0; i < decoder_.size(); ++i) names.push_back(concat("decoder", i));
  return names;
}

InputSizes NnUnetImpl::input_sizes(const ModelConfig& config) {
  return unet_plan(config.nnunet).input_sizes();
}

NnUnetImpl::NnUnetImpl(const ModelConfig& config) : UnetImpl(config, input_sizes(config)) {
  const auto plan = unet_plan(config.nnunet);
  torch::nn::ModuleList stages;
  auto channels = config.in_channels;
  for (std::size_t s = 0; s < plan.stages.size(); ++s) {
    const auto units = conv_units(plan.stages[s].blocks, first_of_stage(plan, s, channels));
    // The original's stage is a list of one.
    stages->push_back(around("0", around("convs", module_list(units))));
    encoder_.push_back({block_part(concat("stage", s), units)});
    channels = plan.stages[s].channels;
  }
  register_module("encoder", around("stages", stages));
  make_decoder(config, plan, {"transpconvs", transposed_up, conv_units, "convs"});
  init_he(*this);
}

InputSizes NnUnetResEncImpl::input_sizes(const ModelConfig& config) {
  return unet_plan(config.nnunet_resenc).input_sizes();
}

NnUnetResEncImpl::NnUnetResEncImpl(const ModelConfig& config)
    : UnetImpl(config, input_sizes(config)) {
  const auto plan = unet_plan(config.nnunet_resenc);
  auto first = first_of_stage(plan, 0, config.in_channels);
  const auto stem_channels = config.nnunet_resenc.stem_channels;
  if (stem_channels > 0) first.out_channels = stem_channels;
  const auto stem = conv_units(1, first);
  torch::nn::ModuleList stages;
  auto channels = first.out_channels;
  for (std::size_t s = 0; s < plan.stages.size(); ++s) {
    const auto units = residual_units(plan.stages[s].blocks, first_of_stage(plan, s, channels));
    stages->push_back(around("blocks", module_list(units)));
    encoder_.push_back({block_part(concat("stage", s), units)});
    channels = plan.stages[s].channels;
  }
  encoder_[0].insert(encoder_[0].begin(), block_part("stem", stem));
  const auto encoder =
      register_module("encoder", around("stem", around("convs", module_list(stem))));
  encoder->register_module("stages", stages);
  make_decoder(config, plan, {"transpconvs", transposed_up, conv_units, "convs"});
  init_he(*this);
  // Residual units start as their shortcuts.
  for (const auto& module : modules(/*include_self=*/false)) {
    auto* unit = module->as<ResidualUnit>();
    if (unit != nullptr && plan.affine) torch::nn::init::zeros_(unit->conv2->norm->weight);
  }
}

}  // namespace segmamba::nn
