#include "segmamba/engine/fine_tuning.h"

#include <gmock/gmock.h>
#include <torch/torch.h>

#include "segmamba/engine/distributed.h"
#include "segmamba/engine/training_step.h"
#include "segmamba/nn/weights.h"
#include "support/error_of.h"

namespace segmamba::engine {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using test::error_of;

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

TEST(Freeze, LeavesWhatMatchesAsItIs) {
  for (const auto& recompute : {std::vector<std::string>{}, {"all"}}) {
    const auto config = small_config();
    const auto model = nn::make_model(config.model);
    model->set_recomputed(recompute);
    EXPECT_EQ(freeze(*model, {"vit.*", "encoder?.layer.conv1.*"}),
              [&] {
                std::size_t count = 0;
                for (const auto& parameter : model->named_parameters()) {
                  const auto& name = parameter.key();
                  count += name.rfind("vit.", 0) == 0 ||
                                   name.find(".layer.conv1.") == std::string("encoder1").size()
                               ? 1
                               : 0;
                }
                return count;
              }());
    std::map<std::string, torch::Tensor> before;
    for (const auto& [name, tensor] : nn::state_dict(*model)) before[name] = tensor.clone();
    const auto ranks = single_rank();
    TrainingStep step(model, config, *ranks);
    ASSERT_TRUE(step.run(torch::randn({1, 2, 8, 8, 8}), torch::randint(0, 3, {1, 8, 8, 8}), 0.1)
                    .finite);
    for (const auto& parameter : model->named_parameters()) {
      EXPECT_EQ(torch::equal(*parameter, before.at(parameter.key())), !parameter->requires_grad())
          << parameter.key();
    }
  }
}

TEST(Freeze, PatternsThatMatchNothingAreErrors) {
  const auto model = nn::make_model(small_config().model);
  EXPECT_THAT(error_of([&] { freeze(*model, {"vit.*", "out.conv.conv.bais"}); }),
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
