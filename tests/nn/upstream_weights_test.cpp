#include "segmamba/nn/upstream_weights.h"

#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>

#include "segmamba/core/text.h"
#include "segmamba/nn/archive.h"
#include "segmamba/nn/model.h"
#include "segmamba/nn/weights.h"
#include "support/error_of.h"
#include "support/temporary_folder.h"

namespace segmamba::nn {
namespace {

using test::error_of;
using test::TemporaryFolder;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

std::vector<std::string> names(const TensorMap& tensors) {
  std::vector<std::string> list;
  for (const auto& [name, tensor] : tensors) list.push_back(name);
  return list;
}

AdaptedState adapt(const std::string& network, TensorMap tensors) {
  ModelConfig config;
  config.name = network;
  return adapt_state_dict(config, std::move(tensors));
}

const auto kOne = torch::ones({1}), kTwo = torch::full({1}, 2.0F);

TEST(UpstreamWeights, NnUnetHoldsEachTensorUnderAllItsNames) {
  const TensorMap own = {{"encoder.stages.0.0.convs.0.conv.weight", kOne},
                         {"encoder.stages.0.0.convs.0.norm.weight", kTwo},
                         {"decoder.stages.0.convs.0.conv.bias", kOne},
                         {"decoder.stages.0.convs.0.conv.weight", kTwo},
                         {"decoder.stages.0.convs.0.norm.bias", kOne},
                         {"decoder.stages.0.convs.0.norm.weight", kTwo},
                         {"decoder.upsample_layers.0.conv.weight", kOne},
                         {"decoder.seg_layers.0.weight", kOne}};
  ModelConfig config;
  for (const auto* network : {"nnunet", "nnunet_resenc", "umamba_bot", "umamba_enc"}) {
    config.name = network;
    const auto all = upstream_state_dict(config, own);
    EXPECT_EQ(all.size(), own.size() + 2 + 2 + 2 + 4);
    EXPECT_TRUE(all.contains("decoder.encoder.stages.0.0.convs.0.all_modules.0.weight"));
    EXPECT_TRUE(torch::equal(all.at("encoder.stages.0.0.convs.0.all_modules.1.weight"), kTwo));
    EXPECT_TRUE(torch::equal(all.at("decoder.stages.0.convs.0.all_modules.1.bias"), kOne));
    EXPECT_FALSE(all.contains("decoder.upsample_layers.0.all_modules.0.weight"));
    EXPECT_EQ(upstream_place(network), "network_weights");
    const auto back = adapt(network, all);
    EXPECT_EQ(names(back.tensors), names(own));
    EXPECT_THAT(back.notes, ElementsAre(HasSubstr("10 further names")));
    for (const auto& [name, tensor] : own) {
      EXPECT_TRUE(torch::equal(back.tensors.at(name), tensor)) << name;
    }
  }
  config.name = "segresnet";
  EXPECT_EQ(names(upstream_state_dict(config, own)), names(own));
}

// The lists of the originals' names say how many further names they have left out.
TEST(UpstreamWeights, WritesAsManyNamesAsTheOriginal) {
  ModelConfig config;
  for (const auto* network : {"nnunet", "nnunet_resenc", "umamba_bot", "umamba_enc"}) {
    std::ifstream file(std::filesystem::path(SEGMAMBA_TEST_DATA) / "nn/zoo/names" /
                       concat(network, ".txt"));
    std::string header, line;
    ASSERT_TRUE(std::getline(file, header)) << network;
    TensorMap own;
    while (std::getline(file, line)) own[split(line, '\t').front()] = kOne;
    const std::string before = " tensors; ";
    const auto further = std::stoul(header.substr(header.find(before) + before.size()));
    config.name = network;
    EXPECT_EQ(upstream_state_dict(config, own).size(), own.size() + further) << network;
  }
}

TEST(UpstreamWeights, OneTensorUnderTwoNamesMustAgree) {
  EXPECT_THAT(error_of([] {
                adapt("nnunet", {{"encoder.a.conv.weight", kOne},
                                 {"decoder.encoder.a.all_modules.0.weight", kTwo}});
              }),
              HasSubstr("encoder.a.conv.weight, but the file holds different values"));
  EXPECT_THAT(error_of([] {
                adapt("nnunet", {{"encoder.\x1b[2J.conv.weight", kOne},
                                 {"decoder.encoder.\x1b[2J.conv.weight", kTwo}});
              }),
              HasSubstr("another name of encoder.?[2J.conv.weight"));
  // Behind a dropout, the norm is the third.
  EXPECT_THAT(names(adapt("nnunet", {{"encoder.a.all_modules.2.weight", kOne}}).tensors),
              ElementsAre("encoder.a.norm.weight"));
}

TEST(UpstreamWeights, UnetrOfEveryRelease) {
  const auto state = adapt("unetr", {{"vit.blocks.0.norm1.weight", kTwo},
                                     {"vit.blocks.0.cross_attn.to_q.weight", kOne},
                                     {"vit.patch_embedding.cls_token", kOne}})
                         .tensors;
  EXPECT_THAT(names(state), UnorderedElementsAre("vit.blocks.0.norm1.weight",
                                                 "vit.blocks.0.norm_cross_attn.weight",
                                                 "vit.blocks.0.norm_cross_attn.bias"));
  EXPECT_TRUE(torch::equal(state.at("vit.blocks.0.norm_cross_attn.weight"), kOne));
}

// Patches of 16^3 voxels and two channels, embedded as the linear layer and as the convolution do.
TEST(UpstreamWeights, PatchEmbeddingsAsLayerAndAsConvolution) {
  const std::string stem = "vit.patch_embedding.patch_embeddings.";
  const auto options = torch::kFloat64;
  const auto linear = torch::randn({3, 16 * 16 * 16 * 2}, options),
             bias = torch::randn({3}, options);
  const auto state = adapt("unetr", {{stem + "1.weight", linear}, {stem + "1.bias", bias}}).tensors;
  ASSERT_THAT(names(state), UnorderedElementsAre(stem + "weight", stem + "bias"));
  const auto image = torch::randn({1, 2, 16, 16, 16}, options);
  const auto by_layer =
      torch::linear(image.permute({0, 2, 3, 4, 1}).reshape({1, -1}), linear, bias);
  const auto by_convolution =
      torch::conv3d(image, state.at(stem + "weight"), state.at(stem + "bias"), 16);
  EXPECT_TRUE(torch::allclose(by_layer, by_convolution.flatten(1), 1e-10, 1e-10));
  ModelConfig config;
  config.name = "unetr";
  config.unetr.proj_type = "perceptron";
  EXPECT_TRUE(torch::equal(adapt_state_dict(config, state).tensors.at(stem + "1.weight"), linear));
}

TEST(UpstreamWeights, SwinOfSelfSupervisedTraining) {
  const auto state = adapt("swin_unetr", {{"patch_embed.proj.weight", kOne},
                                          {"layers1.0.blocks.0.mlp.fc1.weight", kTwo},
                                          {"layers1.0.blocks.0.attn.qkv.weight", kTwo},
                                          {"rotation_head.weight", kOne},
                                          {"contrastive_head.bias", kOne},
                                          {"conv.0.weight", kOne}});
  EXPECT_THAT(names(state.tensors),
              UnorderedElementsAre("swinViT.patch_embed.proj.weight",
                                   "swinViT.layers1.0.blocks.0.mlp.linear1.weight",
                                   "swinViT.layers1.0.blocks.0.attn.qkv.weight"));
  EXPECT_THAT(state.notes, ::testing::Contains(HasSubstr("model.merging=legacy")));
}

TEST(UpstreamWeights, ProjectionsOfOlderVMamba) {
  const auto rows = torch::arange(24).reshape({6, 2, 2});
  const auto state =
      adapt("vmamba", {{"a.op.x_proj_weight", rows}, {"a.op.dt_projs_weight", rows}});
  EXPECT_TRUE(torch::equal(state.tensors.at("a.op.x_proj.weight"), rows.reshape({12, 2})));
  EXPECT_TRUE(torch::equal(state.tensors.at("a.op.dt_projs.weight"), rows.reshape({12, 2})));
}

torch::nn::Sequential small_module() {
  return torch::nn::Sequential(
      {{"linear", torch::nn::Linear(2, 3)}, {"norm", torch::nn::BatchNorm1d(3)}});
}

TEST(LoadMatching, TakesWhatFitsAndTellsTheRest) {
  auto module = small_module();
  const auto before = module->named_parameters()["linear.weight"].detach().clone();
  const auto report =
      load_matching(*module, {{"linear.weight", torch::zeros({3, 5})},
                              {"linear.bias", torch::tensor({1.0, 2.0, 3.0}, torch::kFloat64)},
                              {"norm.weight", torch::tensor({1, 2, 3})},
                              {"norm.bias", torch::tensor({1.0F, std::nanf(""), 0.0F})},
                              {"norm.running_mean", torch::ones({3})},
                              {"more", kOne}});
  EXPECT_THAT(report.loaded, ElementsAre("linear.bias", "norm.bias", "norm.running_mean"));
  EXPECT_THAT(report.missing, ElementsAre("norm.running_var"));
  EXPECT_THAT(report.filled, ElementsAre("norm.num_batches_tracked"));
  EXPECT_THAT(report.extra, ElementsAre("more"));
  EXPECT_THAT(report.converted, ElementsAre("linear.bias"));
  EXPECT_THAT(report.non_finite, ElementsAre("norm.bias"));
  ASSERT_EQ(report.mismatched.size(), 2U);
  EXPECT_EQ(report.mismatched[0].file, "float32 [3, 5]");
  EXPECT_EQ(report.mismatched[0].model, "float32 [3, 2]");
  EXPECT_EQ(report.mismatched[1].file, "int64 [3]");
  EXPECT_FALSE(report.is_complete());
  const auto after = state_dict(*module);
  EXPECT_TRUE(torch::equal(after.at("linear.weight"), before));
  EXPECT_TRUE(torch::equal(after.at("linear.bias"), torch::tensor({1.0F, 2.0F, 3.0F})));
  EXPECT_THAT(describe(report),
              ::testing::Contains(HasSubstr("linear.weight (file float32 [3, 5], model float32")));
  EXPECT_TRUE(match_state_dict(*module, state_dict(*small_module())).is_complete());
}

TEST(StateDictFile, IsFoundWhereverItStands) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "file.pth";
  const auto written = [&](const Dict& content) {
    write_archive(path, content);
    return read_state_dict(path);
  };
  const auto state = tensor_dict({{"a.weight", kOne}, {"a.bias", kTwo}});
  const auto below = [](const std::string& key, const Dict& dict) {
    Dict outer;
    outer.set("epoch", 3);
    outer.set(key, dict);
    Dict optimizer;
    optimizer.set("exp_avg", kTwo);
    outer.set("optimizer_state", optimizer);
    return outer;
  };
  EXPECT_EQ(written(state).place, "");
  for (const auto* key : {"network_weights", "state_dict", "net", "some_name"}) {
    const auto file = written(below(key, state));
    EXPECT_EQ(file.place, key);
    EXPECT_THAT(names(file.tensors), ElementsAre("a.bias", "a.weight"));
  }
  EXPECT_EQ(written(below("checkpoint", below("state_dict", state))).place,
            "checkpoint.state_dict");
  const auto prefixed =
      tensor_dict({{"module._orig_mod.net.a", kOne}, {"module._orig_mod.net.b", kTwo}});
  EXPECT_THAT(names(written(below("model", prefixed)).tensors), ElementsAre("a", "b"));
  EXPECT_THAT(names(written(tensor_dict({{"net.a", kOne}, {"b", kTwo}})).tensors),
              ElementsAre("b", "net.a"));
  Dict two;
  two.set("teacher", state);
  two.set("student", state);
  write_archive(path, two);
  EXPECT_THAT(error_of([&] { read_state_dict(path); }),
              HasSubstr("several dicts of tensors: teacher, student"));
  EXPECT_EQ(read_state_dict(path, "student").place, "student");
  EXPECT_THAT(error_of([&] { read_state_dict(path, "pupil"); }),
              HasSubstr("file.pth: there is no dict under \"pupil\""));
  Dict none;
  none.set("epoch", 3);
  write_archive(path, none);
  EXPECT_THAT(error_of([&] { read_state_dict(path); }), HasSubstr("its keys are epoch"));
}

}  // namespace
}  // namespace segmamba::nn
