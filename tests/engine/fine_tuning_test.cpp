#include "segmamba/engine/fine_tuning.h"

#include <gmock/gmock.h>
#include <torch/torch.h>

#include <set>

#include "segmamba/core/text.h"
#include "segmamba/engine/distributed.h"
#include "segmamba/engine/training_step.h"
#include "segmamba/nn/weights.h"
#include "support/error_of.h"
#include "support/temporary_folder.h"

namespace segmamba::engine {
namespace {

using test::error_of;
using ::testing::AllOf;
using ::testing::HasSubstr;

TrainConfig small_config() {
  TrainConfig config;
  config.model.in_channels = 2;
  config.model.out_channels = 3;
  config.model.segmamba.dims = {4, 6};
  config.model.segmamba.depths = {1, 1};
  config.model.segmamba.hidden_size = 8;
  config.training.ema_decay = 0.9;
  return config;
}

TEST(StartFromWeights, LeavesRandomOnlyWhatMustBe) {
  const test::TemporaryFolder folder;
  auto config = small_config().model;
  const auto source = nn::make_model(config);
  config.init_from = (folder.path() / "weights.safetensors").string();
  nn::write_safetensors(config.init_from, {.tensors = nn::state_dict(*source), .metadata = {}});
  config.in_channels = 3;
  config.out_channels = 5;
  const auto model = nn::make_model(config);
  std::map<std::string, torch::Tensor> random;
  for (const auto& [name, tensor] : nn::state_dict(*model)) random[name] = tensor.clone();
  const auto notices = start_from_weights(*model, config);
  const auto given = nn::state_dict(*source);
  std::set<std::string> left;
  for (const auto& [name, tensor] : nn::state_dict(*model)) {
    const bool fits = given.at(name).sizes() == tensor.sizes();
    EXPECT_TRUE(torch::equal(tensor, fits ? given.at(name) : random.at(name))) << name;
    if (!fits) left.insert(name);
  }
  EXPECT_THAT(left,
              ::testing::ElementsAre("encoder1.layer.conv1.conv.weight",
                                     "encoder1.layer.conv3.conv.weight", "out.conv.conv.bias",
                                     "out.conv.conv.weight", "vit.downsample_layers.0.0.weight"));
  EXPECT_THAT(notices, ::testing::Contains(HasSubstr("out.conv.conv.weight")));
}

TEST(StartFromWeights, OfAnotherNetworkIsAnError) {
  const test::TemporaryFolder folder;
  auto config = small_config().model;
  config.init_from = (folder.path() / "weights.safetensors").string();
  nn::write_safetensors(config.init_from, {.tensors = {{"a", torch::ones(3)}}, .metadata = {}});
  const auto model = nn::make_model(config);
  EXPECT_THAT(error_of([&] { start_from_weights(*model, config); }),
              HasSubstr("none of its 1 tensors has a name and a shape of segmamba"));
  config.init_from = (folder.path() / "nothing.pt").string();
  EXPECT_THAT(error_of([&] { start_from_weights(*model, config); }), HasSubstr("nothing.pt"));
}

TEST(Freeze, LeavesWhatMatchesAsItIs) {
  for (const auto& recompute : {std::vector<std::string>{}, {"all"}}) {
    const auto config = small_config();
    const auto model = nn::make_model(config.model);
    model->set_recomputed(recompute);
    EXPECT_EQ(freeze(*model, {"vit.*", "encoder?.layer.conv1.*"}), [&] {
      std::size_t count = 0;
      for (const auto& parameter : model->named_parameters()) {
        const auto& name = parameter.key();
        count += starts_with(name, "vit.") ||
                         (starts_with(name, "encoder") && name.find(".layer.conv1.") == 8)
                     ? 1
                     : 0;
      }
      return count;
    }());
    std::map<std::string, torch::Tensor> before;
    for (const auto& [name, tensor] : nn::state_dict(*model)) before[name] = tensor.clone();
    const auto ranks = single_rank();
    TrainingStep step(model, config, *ranks);
    ASSERT_TRUE(
        step.run(torch::randn({1, 2, 8, 8, 8}), torch::randint(0, 3, {1, 8, 8, 8}), 0.1).finite);
    for (const auto& parameter : model->named_parameters()) {
      EXPECT_EQ(torch::equal(*parameter, before.at(parameter.key())), !parameter->requires_grad())
          << parameter.key();
    }
  }
}

TEST(Freeze, PatternsThatMatchNothingAreErrors) {
  const auto model = nn::make_model(small_config().model);
  EXPECT_THAT(error_of([&] {
                freeze(*model, {"vit.*", "out.conv.conv.bais"});
              }),
              AllOf(HasSubstr("model.freeze: no parameter is named out.conv.conv.bais"),
                    HasSubstr("did you mean out.conv.conv.bias?")));
  EXPECT_EQ(freeze(*model, {}), 0U);
}

TEST(Freeze, OfEverythingLeavesNothingToTrain) {
  const auto model = nn::make_model(small_config().model);
  freeze(*model, {"*"});
  const auto ranks = single_rank();
  EXPECT_THAT(error_of([&] {
                TrainingStep step(model, small_config(), *ranks);
                step.run(torch::randn({1, 2, 8, 8, 8}), torch::randint(0, 3, {1, 8, 8, 8}), 0.1);
              }),
              HasSubstr("model.freeze leaves no parameter to train"));
}

}  // namespace
}  // namespace segmamba::engine
