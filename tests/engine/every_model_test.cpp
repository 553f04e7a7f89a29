// Every network from its first step to a segmentation.
#include <gmock/gmock.h>
#include <torch/torch.h>

#include "models.h"
#include "nn/small_models.h"
#include "segmamba/engine/checkpoint.h"
#include "segmamba/engine/distributed.h"
#include "segmamba/engine/predictor.h"
#include "segmamba/engine/training_step.h"
#include "segmamba/nn/weights.h"
#include "support/temporary_folder.h"

namespace segmamba::engine {
namespace {

class EveryModel : public ::testing::TestWithParam<test::SmallModel> {
 protected:
  void SetUp() override { at::set_num_threads(1); }  // networks this small only lose by more
  static TrainConfig config() {
    TrainConfig config;
    config.model = GetParam().config();
    config.data.channels = {"a", "b"};
    config.data.classes = {"background", "one", "two"};
    config.data.patch_size = GetParam().sizes;
    config.inference.mirror_axes = {1};
    config.inference.overlap = 0.25;
    config.loss.name = "dice_cross_entropy";
    config.optimizer.name = "adamw";
    complete(config);
    check(config);
    return config;
  }
  test::TemporaryFolder folder_;
};

TEST_P(EveryModel, TrainsSavesLoadsAndSegments) {
  const auto config = this->config();
  const auto& sizes = GetParam().sizes;
  torch::manual_seed(5);
  const auto model = nn::make_model(config.model);
  const auto images = GetParam().input(2);
  const auto labels = torch::randint(0, 3, {2, sizes[0], sizes[1], sizes[2]}, torch::kLong);
  const auto ranks = single_rank();
  TrainingStep step(model, config, *ranks);
  std::vector<double> losses;
  for (int i = 0; i < 2; ++i) {
    const auto before = nn::state_dict(*model);
    std::map<std::string, torch::Tensor> old;
    for (const auto& [name, tensor] : before) old[name] = tensor.clone();
    const auto result = step.run(images, labels, 1e-2);
    ASSERT_TRUE(result.finite) << result.culprit;
    losses.push_back(result.loss);
    for (const auto& parameter : model->named_parameters()) {
      // A bias of 0 stays where stochastic depth leaves its block out, or its output has no weight.
      if (parameter->requires_grad() && parameter->dim() < 2) continue;
      EXPECT_EQ(torch::equal(old.at(parameter.key()), *parameter), !parameter->requires_grad())
          << parameter.key();
    }
  }
  EXPECT_LT(losses[1], losses[0]);

  Checkpoint checkpoint{nn::state_dict(*model), config_to_yaml(config), {}, "test"};
  checkpoint.training.step = step.state();
  const auto path = folder_.path() / "last.pt";
  save_checkpoint(path, checkpoint);
  const auto item = test::case_of(torch::randn({2, sizes[0] + 3, sizes[1] - 2, sizes[2]}));
  const PredictorOptions options{.device = "cpu", .precision = "fp32"};
  const auto loaded = Predictor::load({path}, options).predict(item, {.probabilities = true});
  model->eval();
  const auto direct = Predictor({model}, config, options).predict(item, {.probabilities = true});
  // Loaded ones run as inference lays them out, with another rounding.
  for (std::size_t k = 0; k < 3; ++k) {
    for (std::size_t i = 0; i < direct.probabilities[k].size(); ++i) {
      ASSERT_NEAR(to_float(loaded.probabilities[k][i]), to_float(direct.probabilities[k][i]), 5e-3);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, EveryModel, ::testing::ValuesIn(test::small_models()),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace segmamba::engine
