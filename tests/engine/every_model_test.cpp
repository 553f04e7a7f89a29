// Every network from its first step to a segmentation.
#include <gmock/gmock.h>
#include <torch/torch.h>

#include <map>
#include <string>

#include "models.h"
#include "segmamba/engine/checkpoint.h"
#include "segmamba/engine/distributed.h"
#include "segmamba/engine/predictor.h"
#include "segmamba/engine/training_step.h"
#include "segmamba/nn/weights.h"
#include "small_training.h"
#include "support/temporary_folder.h"

namespace segmamba::engine {
namespace {

using StateDict = std::map<std::string, torch::Tensor>;

void expect_same_bits(const StateDict& actual, const StateDict& expected) {
  EXPECT_EQ(actual.size(), expected.size());
  for (const auto& [name, tensor] : expected) {
    ASSERT_TRUE(actual.contains(name)) << name;
    const auto& other = actual.at(name);
    EXPECT_EQ(other.scalar_type(), tensor.scalar_type()) << name;
    EXPECT_EQ(other.sizes(), tensor.sizes()) << name;
    const auto bits = [](const torch::Tensor& x) { return x.reshape(-1).view(torch::kByte); };
    EXPECT_TRUE(torch::equal(bits(other), bits(tensor))) << name;
  }
}

class EveryModel : public ::testing::TestWithParam<test::SmallModel> {
 protected:
  void SetUp() override { at::set_num_threads(1); }  // networks this small only lose by more
  void TearDown() override { at::set_num_threads(threads_); }
  test::TemporaryFolder folder_;

 private:
  int threads_ = at::get_num_threads();
};

TEST_P(EveryModel, TrainsSavesLoadsAndSegments) {
  const auto config = test::training_of(GetParam());
  torch::manual_seed(5);
  const auto model = nn::make_model(config.model);
  const auto images = GetParam().input(2), labels = test::labels_of(GetParam(), 2);
  const auto ranks = single_rank();
  TrainingStep step(model, config, *ranks);
  const auto before = test::copy_of_state(*model);
  // Two, as a branch whose last norm starts at 0 has no gradient at first.
  for (int i = 0; i < 2; ++i) {
    const auto result = step.run(images, labels, 1e-3);
    ASSERT_TRUE(result.finite) << result.culprit;
  }
  const auto moments = step.state().optimizer;
  for (const auto& parameter : model->named_parameters()) {
    const auto& name = parameter.key();
    const bool trains = parameter->requires_grad();
    ASSERT_EQ(moments.contains("exp_avg." + name), trains) << name;
    const bool has_gradient = trains && !test::without_gradient(GetParam().name).contains(name);
    EXPECT_EQ(torch::equal(*parameter, before.at(name)), !has_gradient) << name;
    if (!trains) continue;
    EXPECT_EQ(moments.at("exp_avg." + name).any().item<bool>(), has_gradient) << name;
  }

  Checkpoint checkpoint;
  checkpoint.model = nn::state_dict(*model);
  checkpoint.config = config_to_yaml(config);
  checkpoint.version = "test";
  checkpoint.training.step = step.state();
  const auto path = folder_.path() / "last.pt";
  save_checkpoint(path, checkpoint);
  const auto saved = load_checkpoint(path);
  expect_same_bits(saved.model, nn::state_dict(*model));
  expect_same_bits(saved.training.step.optimizer, moments);
  expect_same_bits(nn::state_dict(*checkpoint_model(saved, path)), nn::state_dict(*model));

  const auto& sizes = GetParam().sizes;
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
