#include "segmamba/engine/training_step.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <filesystem>

#include "segmamba/core/text.h"
#include "segmamba/engine/schedule.h"
#include "segmamba/nn/weights.h"

namespace segmamba::engine {
namespace {

using torch::Tensor;

double relative_error(double actual, double expected) {
  return std::abs(actual - expected) / std::abs(expected);
}

// Twelve steps of the published optimizer on two fixed batches, from the original implementation
// in float64 (tests/data/engine): fixes the meaning of loss, clipping, momentum, decay and
// schedule.
TEST(TrainingStep, FollowsThePublishedTrajectory) {
  const auto golden = nn::read_safetensors(std::filesystem::path(SEGMAMBA_TEST_DATA) /
                                           "engine/training_trajectory_tom.safetensors")
                          .tensors;
  nn::ModelConfig model_config;
  model_config.encoder = "tom";
  model_config.dims = {8, 12, 16, 24};
  model_config.depths = {1, 1, 1, 1};
  model_config.hidden_size = 32;
  const auto model = nn::make_model(model_config);
  model->to(torch::kDouble);
  std::map<std::string, Tensor> initial;
  for (const auto& [name, tensor] : golden) {
    if (starts_with(name, "param.")) initial[name.substr(6)] = tensor.to(torch::kDouble);
  }
  nn::load_state_dict(*model, initial);

  const TrainConfig config;  // the defaults are the published recipe
  const std::int64_t steps = golden.at("loss").numel();
  TrainingStep step(model, config.loss, config.optimizer, config.training.gradient_clip_norm);
  for (std::int64_t i = 0; i < steps; ++i) {
    const std::string which = concat(i % 2);
    const double rate = learning_rate_at(config.schedule, 1e-2, i, steps);
    EXPECT_NEAR(rate, golden.at("lr")[i].item<double>(), 1e-8);
    const auto result = step.run(golden.at("input." + which).to(torch::kDouble),
                                 golden.at("label." + which).to(torch::kLong), rate);
    EXPECT_LT(relative_error(result.loss, golden.at("loss")[i].item<double>()), 1e-4) << i;
    EXPECT_LT(relative_error(result.gradient_norm, golden.at("grad_norm")[i].item<double>()), 1e-4)
        << i;
  }
  for (const auto& [name, parameter] : nn::state_dict(*model)) {
    const double norm = parameter.norm().item<double>();
    EXPECT_LT(relative_error(norm, golden.at("finalnorm." + name).item<double>()), 1e-4) << name;
    const auto line = torch::linspace(-1, 1, parameter.numel(), torch::kDouble);
    EXPECT_NEAR((parameter.flatten() * line).sum().item<double>(),
                golden.at("finaldot." + name).item<double>(), 1e-4 * norm)
        << name;
  }
}

// A module with a parameter for each kind of weight decay.
struct Parameters : torch::nn::Module {
  Parameters() {
    torch::manual_seed(3);
    weight = register_parameter("weight", torch::randn({5, 4}, torch::kDouble));
    bias = register_parameter("bias", torch::randn({7}, torch::kDouble));
    log = register_parameter("A_b_log", torch::randn({3, 2}, torch::kDouble));
  }
  Tensor loss() const {
    return (weight.sin().square().sum() + (bias - 1).pow(4).sum() + (log.exp() - 2).square().sum());
  }
  Tensor weight, bias, log;
};

template <class Options, class Reference>
void expect_same_path(const OptimizerConfig& config, const Options& decayed,
                      const Options& exempt) {
  Parameters ours, theirs;
  Optimizer optimizer(config, ours);
  Reference reference(
      std::vector<torch::optim::OptimizerParamGroup>{
          {{theirs.weight, theirs.bias}, std::make_unique<Options>(decayed)},
          {{theirs.log}, std::make_unique<Options>(exempt)}},
      decayed);
  for (int i = 0; i < 20; ++i) {
    optimizer.zero_grad();
    reference.zero_grad();
    ours.loss().backward();
    theirs.loss().backward();
    optimizer.step(config.learning_rate);
    reference.step();
  }
  for (const auto& item : ours.named_parameters()) {
    EXPECT_TRUE(torch::allclose(item.value(), theirs.named_parameters()[item.key()], 1e-9, 1e-11))
        << item.key();
  }
}

TEST(Optimizer, SgdEqualsTorchs) {
  OptimizerConfig config;
  config.learning_rate = 1e-3;
  config.weight_decay = 0.1;
  config.momentum = 0.9;
  const auto options = torch::optim::SGDOptions(1e-3).momentum(0.9).nesterov(true);
  auto decayed = options;
  decayed.weight_decay(0.1);
  expect_same_path<torch::optim::SGDOptions, torch::optim::SGD>(config, decayed, options);
}

TEST(Optimizer, AdamwEqualsTorchs) {
  OptimizerConfig config;
  config.name = "adamw";
  config.learning_rate = 1e-2;
  config.weight_decay = 0.1;
  config.betas = {0.8, 0.95};
  const auto options = torch::optim::AdamWOptions(1e-2).betas({0.8, 0.95}).weight_decay(0);
  auto decayed = options;
  decayed.weight_decay(0.1);
  expect_same_path<torch::optim::AdamWOptions, torch::optim::AdamW>(config, decayed, options);
}

TEST(Optimizer, StateOfTimeConstantsIsExemptFromDecay) {
  for (const char* name : {"vit.stages.0.0.mamba.A_log", "m.A_b_log", "m.A_s_log", "D", "m.D_s"}) {
    EXPECT_TRUE(is_exempt_from_decay(name)) << name;
  }
  for (const char* name : {"m.D.weight", "m.BAD", "m.A", "m.in_proj.weight", "m.dt_proj_b.bias"}) {
    EXPECT_FALSE(is_exempt_from_decay(name)) << name;
  }
}

TEST(Optimizer, ClipsToTheTotalNorm) {
  Parameters module;
  Optimizer optimizer({}, module);
  module.loss().backward();
  double squares = 0;
  for (const auto& parameter : module.parameters()) {
    squares += parameter.grad().square().sum().item<double>();
  }
  const double norm = std::sqrt(squares);
  EXPECT_NEAR(optimizer.clip_gradients(2 * norm), norm, 1e-9);
  EXPECT_NEAR(optimizer.clip_gradients(0.25 * norm), norm, 1e-9);
  EXPECT_NEAR(optimizer.clip_gradients(0), 0.25 * norm, 1e-5 * norm);
}

struct ScaleModel : nn::SegmentationModel {
  ScaleModel() { scale = register_parameter("scale", torch::ones({})); }
  Tensor forward(const Tensor& input) override { return input * scale; }
  std::int64_t size_multiple() const override { return 1; }
  Tensor scale;
};

TEST(TrainingStep, LeavesTheWeightsWhereTheLossIsNotFinite) {
  const auto model = std::make_shared<ScaleModel>();
  TrainingStep step(model, LossConfig{}, OptimizerConfig{}, 12);
  auto images = torch::ones({1, 2, 2, 2, 2});
  images[0][1][0][0][0] = std::numeric_limits<float>::quiet_NaN();
  const auto result = step.run(images, torch::zeros({1, 2, 2, 2}, torch::kLong), 0.1);
  EXPECT_FALSE(result.finite);
  EXPECT_EQ(model->scale.item<float>(), 1);
}

}  // namespace
}  // namespace segmamba::engine
