#include "segmamba/engine/fine_tuning.h"

#include <gmock/gmock.h>
#include <torch/torch.h>

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "segmamba/core/text.h"
#include "segmamba/engine/distributed.h"
#include "segmamba/engine/training_step.h"
#include "segmamba/nn/weights.h"
#include "small_training.h"
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
  const auto random = test::copy_of_state(*model);
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

class FineTuning : public ::testing::TestWithParam<test::SmallModel> {
 protected:
  void SetUp() override {
    at::set_num_threads(1);  // networks this small only lose by more
    torch::manual_seed(2);
  }
  void TearDown() override { at::set_num_threads(threads_); }

 private:
  int threads_ = at::get_num_threads();
};

// What takes the image, and the layers that give the classes.
struct TiedToData {
  std::vector<std::string> weights;
  std::vector<std::string> layers;
};

std::set<std::string> tied_to_data(const std::string& model) {
  const std::string conv1 = "encoder1.layer.conv1.conv.weight",
                    conv3 = "encoder1.layer.conv3.conv.weight", out = "out.conv.conv",
                    stem = "vit.downsample_layers.0.0.weight",
                    ux_stem = "uxnet_3d.downsample_layers.0.0.weight",
                    swin_stem = "swinViT.patch_embed.proj.weight";
  const auto numbered = [](const std::string& before, int count, const std::string& after) {
    std::vector<std::string> layers;
    for (int i = 0; i < count; ++i) layers.push_back(concat(before, i, after));
    return layers;
  };
  const auto nnunet_heads = [&](int count) { return numbered("decoder.seg_layers.", count, ""); };
  const std::map<std::string, TiedToData> models = {
      {"segmamba_tom",
       {{conv1, conv3, stem}, {out, "deep_outs.0.conv.conv", "deep_outs.1.conv.conv"}}},
      {"segmamba_bidirectional",
       {{conv1, conv3, "mamba_encoder.downsample_layers.0.0.weight"}, {out}}},
      {"segmamba_paper", {{conv1, conv3}, {out}}},  // its stem takes each channel alone
      {"segresnet", {{"convInit.conv.weight"}, {"conv_final.2.conv"}}},
      {"segresnet_deconv", {{"convInit.conv.weight"}, {"conv_final.2.conv"}}},
      {"uxnet", {{conv1, conv3, ux_stem}, {out}}},
      {"uxnet_deep",
       {{conv1, conv3, ux_stem},
        {out, "deep_outs.0.conv.conv", "deep_outs.1.conv.conv", "deep_outs.2.conv.conv"}}},
      {"vim", {{conv1, conv3, stem}, {out}}},
      {"vmamba", {{conv1, conv3, stem}, {out}}},
      {"vmamba_wide", {{conv1, conv3, stem}, {out}}},
      // The original counts the channels for linear_encoding, which it never uses.
      {"transbts", {{"Unet.InitConv.conv.weight", "linear_encoding.weight"}, {"endconv"}}},
      {"nnunet", {{"encoder.stages.0.0.convs.0.conv.weight"}, nnunet_heads(2)}},
      {"nnunet_anisotropic", {{"encoder.stages.0.0.convs.0.conv.weight"}, nnunet_heads(3)}},
      {"nnunet_resenc", {{"encoder.stem.convs.0.conv.weight"}, nnunet_heads(2)}},
      {"mednext", {{"stem.weight"}, numbered("out_", 5, ".conv_out")}},
      {"mednext_grn_layer", {{"stem.weight"}, {"out_0.conv_out"}}},
      {"umamba_bot",
       {{"encoder.stem.0.conv1.weight", "encoder.stem.0.conv3.weight"}, nnunet_heads(2)}},
      {"umamba_enc",
       {{"encoder.stem.0.conv1.weight", "encoder.stem.0.conv3.weight"}, nnunet_heads(1)}},
      {"unetr", {{conv1, conv3, "vit.patch_embedding.patch_embeddings.weight"}, {out}}},
      {"unetr_perceptron",
       {{conv1, conv3, "vit.patch_embedding.patch_embeddings.1.weight"}, {out}}},
      {"swin_unetr", {{conv1, conv3, swin_stem}, {out}}},
      {"swin_unetr_v2", {{conv1, conv3, swin_stem}, {out}}},
      {"nnformer", {{"model_down.patch_embed.proj1.conv1.weight"}, numbered("final.", 3, ".up")}}};
  const auto& [weights, layers] = models.at(model);
  std::set<std::string> names(weights.begin(), weights.end());
  for (const auto& layer : layers) names.insert({layer + ".weight", layer + ".bias"});
  return names;
}

TEST_P(FineTuning, LeavesRandomOnlyWhatMustBe) {
  const test::TemporaryFolder folder;
  auto config = GetParam().config();
  const auto source = nn::make_model(config);
  {
    const torch::NoGradGuard no_grad;
    for (auto& parameter : source->parameters()) parameter.normal_();  // none at its initial value
  }
  config.init_from = (folder.path() / "weights.safetensors").string();
  nn::write_safetensors(config.init_from, {.tensors = nn::state_dict(*source), .metadata = {}});
  config.in_channels = 1;
  config.out_channels = 5;
  const auto model = nn::make_model(config);
  const auto random = test::copy_of_state(*model), given = nn::state_dict(*source);
  const auto notices = start_from_weights(*model, config);
  std::set<std::string> left;
  for (const auto& [name, tensor] : nn::state_dict(*model)) {
    if (torch::equal(tensor, given.at(name))) continue;
    EXPECT_TRUE(torch::equal(tensor, random.at(name))) << name;
    left.insert(name);
  }
  EXPECT_EQ(left, tied_to_data(GetParam().name));
  EXPECT_THAT(notices, ::testing::Contains(
                           HasSubstr(concat(given.size() - left.size(), " tensors loaded"))));
  EXPECT_THAT(notices, ::testing::Contains(HasSubstr(*left.begin() + " (file ")));
}

TEST_P(FineTuning, FreezesWhatMatches) {
  const auto config = test::training_of(GetParam());
  const auto model = nn::make_model(config.model);
  std::vector<std::string> trained;
  for (const auto& parameter : model->named_parameters()) {
    if (parameter->requires_grad()) trained.push_back(parameter.key());
  }
  // The part of the network that its first parameter belongs to, whatever its name.
  const auto part = trained.front().substr(0, trained.front().find('.') + 1);
  const auto frozen = std::erase_if(trained, [&](auto& name) { return starts_with(name, part); });
  ASSERT_FALSE(trained.empty());
  EXPECT_EQ(freeze(*model, {part + "*"}), frozen);
  const auto before = test::copy_of_state(*model);
  const auto ranks = single_rank();
  TrainingStep step(model, config, *ranks);
  ASSERT_TRUE(step.run(GetParam().input(), test::labels_of(GetParam(), 1), 1e-3).finite);
  const auto moments = step.state().optimizer;
  std::size_t moved = 0;
  for (const auto& parameter : model->named_parameters()) {
    const auto& name = parameter.key();
    const bool trains = std::find(trained.begin(), trained.end(), name) != trained.end();
    EXPECT_EQ(moments.contains("exp_avg." + name), trains) << name;
    const bool stays = torch::equal(*parameter, before.at(name));
    EXPECT_TRUE(stays || trains) << name;
    moved += stays ? 0 : 1;
  }
  EXPECT_GT(moved, 0U);
}

INSTANTIATE_TEST_SUITE_P(Models, FineTuning, ::testing::ValuesIn(test::small_models()),
                         [](const auto& info) { return info.param.name; });

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
    const auto before = test::copy_of_state(*model);
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
  EXPECT_EQ(error_of([&] { freeze(*model, {"*"}); }), "model.freeze leaves no parameter to train");
}

}  // namespace
}  // namespace segmamba::engine
