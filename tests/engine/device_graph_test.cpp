// Recorded work gives the bits of the same work launch by launch. Needs a GPU; scripts/gpu_check.sh
// runs it.

#include "segmamba/engine/device_graph.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <utility>
#include <vector>

#include "segmamba/engine/training_step.h"
#include "segmamba/nn/inference.h"
#include "segmamba/nn/weights.h"
#include "support/error_of.h"
#include "window_scores.h"

namespace segmamba::engine {
namespace {

using torch::Tensor;

const torch::Device kGpu(torch::kCUDA, 0);

class CudaGraph : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!torch::cuda::is_available()) GTEST_SKIP() << "no GPU on this machine";
    // cuDNN adds up gradients of weights in any order otherwise.
    at::globalContext().setDeterministicCuDNN(true);
  }
  void TearDown() override { at::globalContext().setDeterministicCuDNN(false); }
};

TrainConfig small_config(const std::string& network, const std::string& precision) {
  TrainConfig config;
  config.model.name = network;
  config.model.segmamba.dims = {8, 12, 16, 24};
  config.model.segmamba.depths = {1, 1, 1, 1};
  config.model.segmamba.hidden_size = 32;
  config.model.segresnet.init_filters = 8;
  config.model.segresnet.dropout_prob = 0.3;
  config.model.segresnet.upsample_mode = "deconv";  // interpolation has gradients of any order
  config.training.precision = precision;
  config.loss.name = "dice_cross_entropy";
  config.loss.class_weights = {0.5, 1, 2, 1};
  return config;
}

// Losses of five steps of a model made from a seed, then its weights.
std::pair<std::vector<double>, std::map<std::string, Tensor>> train(TrainConfig config,
                                                                    bool graph) {
  config.training.graph = graph;
  torch::manual_seed(1);
  const auto model = nn::make_model(config.model);
  model->to(kGpu);
  const auto ranks = single_rank();
  TrainingStep step(model, config, *ranks);
  std::vector<double> losses;
  for (std::uint64_t i = 0; i < 5; ++i) {
    torch::manual_seed(100 + i);
    const auto images = torch::randn({2, 4, 32, 32, 32}).to(kGpu);
    const auto labels = torch::randint(4, {2, 32, 32, 32}, torch::kLong).to(kGpu);
    const auto result = step.run(images, labels, 1e-2);
    losses.push_back(result.loss);
    EXPECT_TRUE(result.finite);
  }
  return {losses, nn::state_dict(*model)};
}

TEST_F(CudaGraph, TrainsAsWithout) {
  for (const char* network : {"segmamba", "segresnet"}) {  // the second one draws random numbers
    for (const char* precision : {"fp32", "bf16", "fp16"}) {
      SCOPED_TRACE(std::string(network) + " " + precision);
      const auto config = small_config(network, precision);
      const auto [losses, weights] = train(config, /*graph=*/false);
      const auto [recorded_losses, recorded_weights] = train(config, /*graph=*/true);
      EXPECT_EQ(recorded_losses, losses);
      for (const auto& [name, weight] : weights) {
        EXPECT_TRUE(torch::equal(recorded_weights.at(name), weight)) << name;
      }
    }
  }
}

TEST_F(CudaGraph, RefusesWhatItCannotRecord) {
  auto config = small_config("segmamba", "fp32");
  config.training.graph = true;
  config.training.recompute = {"all"};
  const auto model = nn::make_model(config.model);
  model->to(kGpu);
  const auto ranks = single_rank();
  EXPECT_EQ(test::error_of([&] { TrainingStep(model, config, *ranks); }),
            "training.graph cannot record parts that are computed again: set it to false, or "
            "training.recompute to []");
}

TEST_F(CudaGraph, PassesOfWindowsAreTheSame) {
  torch::manual_seed(1);
  for (const auto type : {torch::kFloat32, torch::kBFloat16}) {
    const auto model = nn::make_model(small_config("segmamba", "fp32").model);
    model->to(kGpu);
    nn::prepare_for_inference(*model, type);
    const c10::InferenceMode inference;
    const WindowScores plain({model}, {0}, std::nullopt, kGpu, /*weights_change=*/true);
    const WindowScores recorded({model}, {0}, std::nullopt, kGpu, /*weights_change=*/false);
    // Two shapes, whose recordings share memory.
    for (int round = 0; round < 4; ++round) {
      for (const std::int64_t batch : {2, 1}) {
        const auto windows = torch::randn({batch, 4, 32, 32, 48});
        const auto expected = plain(windows, {}, [] {});
        EXPECT_TRUE(torch::equal(recorded(windows, {}, [] {}), expected)) << round << batch;
      }
    }
  }
}

TEST(DeviceGraph, IsOfGpusAlone) {
  EXPECT_EQ(test::error_of([] { DeviceGraph(torch::kCPU, [] {}); }),
            "only work on a GPU can be recorded, not on cpu");
  auto config = small_config("segmamba", "fp32");
  config.training.graph = true;
  const auto ranks = single_rank();
  EXPECT_EQ(test::error_of([&] { TrainingStep(nn::make_model(config.model), config, *ranks); }),
            "training.graph is for runs on one GPU: set it to false");
}

}  // namespace
}  // namespace segmamba::engine
