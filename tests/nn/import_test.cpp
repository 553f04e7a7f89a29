// What a weights file says of its network, and what people are told where it does not fit: by the
// library, and by segmamba-model as a process.

#include <gmock/gmock.h>
#include <sys/wait.h>

#include <array>
#include <cstdlib>
#include <limits>

#include "segmamba/core/files.h"
#include "segmamba/core/json.h"
#include "segmamba/core/text.h"
#include "segmamba/nn/archive.h"
#include "segmamba/nn/model.h"
#include "segmamba/nn/network_difference.h"
#include "segmamba/nn/nnunet_plans.h"
#include "segmamba/nn/state_dict.h"
#include "segmamba/nn/upstream_weights.h"
#include "segmamba/nn/weights.h"
#include "support/error_of.h"
#include "support/temporary_folder.h"

namespace segmamba::nn {
namespace {

using test::error_of;
using test::TemporaryFolder;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;

TEST(InputSizeHint, TellsTheSizeThatTheWeightsHave) {
  ModelConfig config;
  const auto hint = [&](const char* network, const char* name, std::vector<std::int64_t> shape) {
    config.name = network;
    return input_size_hint(config, {{name, torch::empty(shape)}}, nullptr);
  };
  const auto* const positions = "vit.patch_embedding.position_embeddings";
  EXPECT_EQ(hint("unetr", positions, {1, 216, 4}), "--set model.img_size=[96,96,96]");
  EXPECT_EQ(hint("unetr", positions, {1, 1, 4}), "--set model.img_size=[16,16,16]");
  // 128x128x64, or any other order.
  EXPECT_EQ(hint("unetr", positions, {1, 256, 4}), "--set model.img_size=[D,H,W]");
  EXPECT_EQ(hint("transbts", "position_encoding.position_embeddings", {1, 4096, 4}),
            "--set model.img_size=[128,128,128]");
  EXPECT_EQ(hint("nnformer", "a", {1}), "--set model.crop_size=[D,H,W]");
  EXPECT_EQ(hint("umamba_enc", "a", {1}), "--set model.input_size=[D,H,W]");
  EXPECT_EQ(hint("umamba_bot", "a", {1}), "");
}

// No tokens of a size that no loop comes to the end of, and more than any network has.
TEST(InputSizeHint, OfHostileShapes) {
  ModelConfig config;
  config.name = "unetr";
  const auto hint = [&](const torch::Tensor& positions) {
    return input_size_hint(config, {{"vit.patch_embedding.position_embeddings", positions}},
                           nullptr);
  };
  EXPECT_EQ(hint(torch::empty({0, std::numeric_limits<std::int64_t>::max(), 1})),
            "--set model.img_size=[D,H,W]");
  const std::int64_t side = std::int64_t{1} << 20;
  EXPECT_EQ(hint(torch::zeros({1, 1, 1}).expand({1, side * side * side, 1})),
            "--set model.img_size=[D,H,W]");
}

TEST(InputSizeHint, IsGivenWhereThatSizeIsWhatDoesNotFit) {
  ModelConfig config;
  config.name = "umamba_enc";
  LoadReport report;
  report.mismatched = {{"encoder.stem.0.conv1.weight", "", ""}};
  EXPECT_EQ(input_size_hint(config, {}, &report), "");
  report.mismatched.push_back({"encoder.mamba_layers.5.norm.weight", "", ""});
  EXPECT_EQ(input_size_hint(config, {}, &report), "--set model.input_size=[D,H,W]");
}

TEST(LoadReport, WarnsWhereLessThanHalfIsLoaded) {
  const torch::nn::Linear module(2, 2);  // 4 weights and 2 biases
  const auto weights = match_state_dict(*module, {{"weight", torch::ones({2, 2})}});
  EXPECT_EQ(weights.numbers, 6);
  EXPECT_EQ(weights.numbers_loaded, 4);
  EXPECT_EQ(warning_of_few(weights), "");
  EXPECT_EQ(describe(weights).front(), "1 tensors loaded, 66.6 % of the network's numbers");
  const auto biases = match_state_dict(*module, {{"bias", torch::ones({2})}});
  EXPECT_THAT(warning_of_few(biases), HasSubstr("only 33.3 % of the network's numbers"));
  const auto all = match_state_dict(*module, state_dict(*module));
  EXPECT_EQ(describe(all).front(), "2 tensors loaded, 100 % of the network's numbers");
}

TEST(ConfigInside, ThatCannotBeReadIsTold) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "weights.safetensors";
  const auto read = [&](const std::map<std::string, std::string>& metadata) {
    write_safetensors(path, {.tensors = {{"a", torch::ones({1})}}, .metadata = metadata});
    return read_state_dict(path);
  };
  EXPECT_EQ(read({{"model", "name: unetr\n"}}).config, "model:\n  name: unetr\n");
  EXPECT_EQ(read({}).config_problem, "");
  const auto unknown = read({{"model", "name: unetr\nfeature_sizes: 3\n"}});
  EXPECT_EQ(unknown.config, "");
  EXPECT_THAT(unknown.config_problem,
              ::testing::AllOf(HasSubstr("the config inside:3: "), HasSubstr("feature_sizes")));
  EXPECT_THAT(unknown.notes, ::testing::Contains("not used: " + unknown.config_problem));
  EXPECT_EQ(unknown.tensors.size(), 1U);
  EXPECT_THAT(read({{"model", "unetr"}, {"config", "{"}}).config_problem,
              HasSubstr("the config inside"));
  EXPECT_THAT(read({{"model", "unetr"}, {"config", "{\"widths\": 3}"}}).config_problem,
              HasSubstr("widths"));

  EXPECT_THAT(read({{"model", std::string(2 << 20, '#')}}).config_problem,
              HasSubstr("above 256 KiB"));

  Dict content;
  content.set("model", tensor_dict({{"a", torch::ones({1})}}));
  content.set("config", std::string("model: [1, 2]\n"));
  write_archive(path, content);
  EXPECT_THAT(read_state_dict(path).config_problem, HasSubstr("the config inside:1: model"));
}

TEST(NetworkDifference, IsNoneBetweenWaysToWriteOneNetwork) {
  const auto between = [](const char* file, const char* own) {
    ModelConfig config;
    ConfigDocument::from_text(own, "own").read(config);
    return network_difference(model_section(file), config);
  };
  const auto same = [&](const char* file, const char* own) {
    EXPECT_EQ(between(file, own), "");
    EXPECT_EQ(between(own, file), "");
  };
  const char* const short_unet =
      "name: nnunet\nfeatures_per_stage: [4, 8]\nkernel_sizes: [[1, 3, 3]]\nstrides: []\n"
      "n_conv_per_stage: [2]\nn_conv_per_stage_decoder: [2]\n";
  const char* const long_unet =
      "name: nnunet\nfeatures_per_stage: [4, 8]\nkernel_sizes: [[1, 3, 3], [1, 3, 3]]\n"
      "strides: [[1, 1, 1], [2, 2, 2]]\nn_conv_per_stage: [2, 2]\n"
      "n_conv_per_stage_decoder: [2]\n";
  same(short_unet, long_unet);
  EXPECT_EQ(between(short_unet,
                    "name: nnunet\nfeatures_per_stage: [4, 8]\nkernel_sizes: [[1, 3, 3]]\n"
                    "strides: [[1, 1, 1], [1, 2, 2]]\n"),
            "the file's network has strides: [[1, 1, 1], [2, 2, 2]] (here [[1, 1, 1], [1, 2, 2]])");
  same("name: umamba_bot\nn_conv_per_stage: [2]\n",
       "name: umamba_bot\nn_conv_per_stage: [2, 2, 2, 2, 2, 2]\n");
  same("name: nnunet_resenc\nstem_channels: 0\n", "name: nnunet_resenc\nstem_channels: 32\n");
  same("name: mednext\nsize: S\n",
       "name: mednext\nsize: L\nexp_r: [2]\nblock_counts: [2, 2, 2, 2, 2, 2, 2, 2, 2]\n");
  same("name: mednext\ndec_kernel_size: 0\n", "name: mednext\ndec_kernel_size: 3\n");
  EXPECT_EQ(between("name: mednext\nkernel_size: 3\n", "name: mednext\nkernel_size: 5\n"),
            "the file's network has kernel_size: 3 (here 5)");
  EXPECT_THAT(between("name: mednext\nsize: S\n", "name: mednext\nsize: B\n"),
              HasSubstr("has exp_r: [2, 2, 2, 2, 2, 2, 2, 2, 2] (here [2, 3, 4,"));
  same("name: unetr\nproj_type: perceptron\n", "name: unetr\nproj_type: conv\n");
  same("name: segmamba\nencoder: tom\nmlp_ratio: 2\n", "name: segmamba\nencoder: tom\n");
  EXPECT_EQ(between("encoder: paper\nmlp_ratio: 2\n", "encoder: paper\n"),
            "the file's network has mlp_ratio: 2 (here 4)");
  same("in_channels: 1\ndeep_supervision: true\n", "in_channels: 2\n");
}

TEST(NetworkDifference, AndWhetherAFileIsOfANetworkAtAll) {
  ModelConfig config;
  config.name = "swin_unetr";
  EXPECT_FALSE(is_of_network("", config));
  EXPECT_EQ(network_difference("", config), "");
  EXPECT_FALSE(is_of_network("model:\n  name: nnunet\n", config));
  EXPECT_TRUE(is_of_network("model:\n  name: swin_unetr\n  merging: legacy\n", config));
}

// UpKern: what torch.nn.functional.interpolate(mode="trilinear") makes of a kernel.
TEST(EnlargeKernels, InterpolatesThoseOfMedNeXt) {
  ModelConfig config;
  config.name = "mednext";
  torch::nn::Module model;
  model.register_parameter("conv1", torch::zeros({2, 1, 5, 5, 5}));
  model.register_parameter("conv2", torch::zeros({4, 2, 1, 1, 1}));
  model.register_parameter("conv3", torch::zeros({2, 4, 3, 3, 3}));
  const auto line = torch::tensor({1.0, 2.0, 4.0}, torch::kFloat64);
  const auto kernel = (line.view({3, 1, 1}) * line.view({3, 1}) * line).expand({2, 1, 3, 3, 3});
  const TensorMap given = {{"conv1", kernel},
                           {"conv2", torch::ones({4, 2, 1, 1, 1})},
                           {"conv3", torch::ones({2, 5, 1, 1, 1})}};
  auto tensors = given;
  EXPECT_THAT(enlarge_kernels(config, model, tensors),
              ::testing::ElementsAre(HasSubstr("1 kernels enlarged")));
  // Tap i of 5 lies at (i + 1/2) 3/5 - 1/2 of 3.
  const auto enlarged = torch::tensor({1.0, 1.4, 2.0, 3.2, 4.0}, torch::kFloat64);
  EXPECT_TRUE(torch::allclose(
      tensors.at("conv1"),
      (enlarged.view({5, 1, 1}) * enlarged.view({5, 1}) * enlarged).expand({2, 1, 5, 5, 5})));
  EXPECT_TRUE(torch::equal(tensors.at("conv2"), given.at("conv2")));
  EXPECT_TRUE(torch::equal(tensors.at("conv3"), given.at("conv3")));
  tensors = {{"conv1", torch::empty({2, 1, 0, 5, 5})}};  // nothing to interpolate
  EXPECT_THAT(enlarge_kernels(config, model, tensors), ::testing::IsEmpty());
  config.name = "nnunet";
  tensors = given;
  EXPECT_THAT(enlarge_kernels(config, model, tensors), ::testing::IsEmpty());
  EXPECT_TRUE(torch::equal(tensors.at("conv1"), kernel));
}

TEST(FitFirstLayer, KeepsTheSumOverAlikeChannels) {
  ModelConfig config;
  config.in_channels = 3;
  torch::nn::Module model;
  model.register_parameter("first", torch::zeros({2, 3, 1, 1, 1}));
  model.register_parameter("other", torch::zeros({2, 4, 1, 1, 1}));
  const TensorMap given = {{"first", torch::tensor({1.0F, 2.0F, 3.0F, 5.0F}).view({2, 2, 1, 1, 1})},
                           {"other", torch::ones({2, 2, 1, 1, 1})}};
  const auto first = [&](FirstLayer how, std::size_t notes) {
    auto tensors = given;
    EXPECT_EQ(fit_first_layer(config, model, how, tensors).size(), notes);
    EXPECT_TRUE(torch::equal(tensors.at("other"), given.at("other")));
    return tensors.at("first");
  };
  EXPECT_TRUE(torch::equal(first(FirstLayer::kRandom, 0), given.at("first")));
  // The sums are 3 and 8.
  EXPECT_TRUE(
      torch::equal(first(FirstLayer::kRepeat, 1),
                   torch::tensor({0.5F, 2.0F, 0.5F, 1.5F, 5.0F, 1.5F}).view({2, 3, 1, 1, 1})));
  EXPECT_TRUE(torch::allclose(
      first(FirstLayer::kMean, 1),
      torch::tensor({1.0F, 1.0F, 1.0F, 8 / 3.0F, 8 / 3.0F, 8 / 3.0F}).view({2, 3, 1, 1, 1})));
}

// The channels left out count as the mean of those that stay.
TEST(FitFirstLayer, OfFewerChannels) {
  ModelConfig config;
  config.in_channels = 2;
  torch::nn::Module model;
  model.register_parameter("first", torch::zeros({1, 2, 1, 1, 1}));
  const auto first = [&](FirstLayer how) {
    TensorMap tensors = {{"first", torch::tensor({1.0F, 2.0F, 4.0F, 5.0F}).view({1, 4, 1, 1, 1})}};
    fit_first_layer(config, model, how, tensors);
    return tensors.at("first").flatten();
  };
  EXPECT_TRUE(torch::equal(first(FirstLayer::kRepeat), torch::tensor({2.0F, 4.0F})));
  EXPECT_TRUE(torch::equal(first(FirstLayer::kMean), torch::tensor({6.0F, 6.0F})));
}

// The first convolution and the last, which tell the channels.
const TensorMap kEnds = {{"encoder.stages.0.0.convs.0.conv.weight", torch::ones({4, 2, 1, 3, 3})},
                         {"decoder.seg_layers.0.weight", torch::ones({3, 4, 1, 1, 1})}};

const char* const kPlans = R"({"configurations": {
  "2d": {"architecture": {
    "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
    "arch_kwargs": {"features_per_stage": [4, 8], "conv_op": "torch.nn.modules.conv.Conv2d"}}},
  "3d_fullres": {"patch_size": [16, 32, 32], "architecture": {
    "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
    "arch_kwargs": {
      "n_stages": 2, "features_per_stage": [4, 8], "conv_op": "torch.nn.modules.conv.Conv3d",
      "kernel_sizes": [[1, 3, 3], [3, 3, 3]], "strides": [[1, 1, 1], [1, 2, 2]],
      "n_conv_per_stage": [1, 2], "n_conv_per_stage_decoder": [2], "conv_bias": true,
      "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
      "norm_op_kwargs": {"eps": 1e-05, "affine": true}, "dropout_op": null,
      "dropout_op_kwargs": null, "nonlin": "torch.nn.LeakyReLU", "nonlin_kwargs": {"inplace": true}},
    "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"]}},
  "old": {"UNet_class_name": "ResidualEncoderUNet", "UNet_base_num_features": 4,
    "unet_max_num_features": 12, "conv_kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 3, 3]],
    "pool_op_kernel_sizes": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
    "n_conv_per_stage_encoder": [1, 3, 4], "n_conv_per_stage_decoder": [1, 2],
    "patch_size": [16, 32, 32]},
  "heir": {"inherits_from": "old", "unet_max_num_features": 8},
  "own": {"inherits_from": null, "UNet_class_name": "OtherUNet"},
  "circle": {"inherits_from": "circle"},
  "other": {"UNet_class_name": "a.b.OtherUNet"}}})";

TEST(Plans, OfEveryVersion) {
  const auto plans = parse_json(kPlans, "plans.json");
  const auto config = [&](const char* configuration, const char* network = "") {
    return config_from_plans(plans, configuration, network, kEnds, "plans.json");
  };
  const auto plain = config("3d_fullres");
  EXPECT_EQ(plain.name, "nnunet");
  EXPECT_EQ(plain.in_channels, 2);
  EXPECT_EQ(plain.out_channels, 3);
  EXPECT_THAT(plain.nnunet.features_per_stage, ::testing::ElementsAre(4, 8));
  using Axes = std::vector<std::vector<std::int64_t>>;
  EXPECT_EQ(plain.nnunet.kernel_sizes, (Axes{{1, 3, 3}, {3, 3, 3}}));
  EXPECT_EQ(plain.nnunet.strides, (Axes{{1, 1, 1}, {1, 2, 2}}));
  EXPECT_THAT(plain.nnunet.n_conv_per_stage, ::testing::ElementsAre(1, 2));
  EXPECT_THAT(plain.nnunet.n_conv_per_stage_decoder, ::testing::ElementsAre(2));
  const auto old = config("old");
  EXPECT_EQ(old.name, "nnunet_resenc");
  EXPECT_THAT(old.nnunet_resenc.features_per_stage, ::testing::ElementsAre(4, 8, 12));
  EXPECT_THAT(old.nnunet_resenc.n_blocks_per_stage, ::testing::ElementsAre(1, 3, 4));
  EXPECT_EQ(old.nnunet_resenc.strides, (Axes{{1, 1, 1}, {1, 2, 2}, {2, 2, 2}}));
  EXPECT_THAT(config("heir").nnunet_resenc.features_per_stage, ::testing::ElementsAre(4, 8, 8));
  const auto umamba = config("old", "umamba_enc");
  EXPECT_EQ(umamba.name, "umamba_enc");
  EXPECT_THAT(umamba.umamba.input_size, ::testing::ElementsAre(16, 32, 32));
  EXPECT_THAT(umamba.umamba.n_conv_per_stage, ::testing::ElementsAre(1, 3, 4));

  const auto error = [&](const char* configuration) {
    return error_of([&] { config(configuration); });
  };
  EXPECT_THAT(error("3d"), HasSubstr("plans.json: there is no configuration \"3d\", only 2d, 3d_"));
  EXPECT_THAT(error("circle"), HasSubstr("circle inherits from itself"));
  // Widths that no integer holds when they are doubled, and such that are none.
  const auto width_error = [&](const Json& base, const Json& most) {
    Json changed = plans;
    changed["configurations"]["old"]["UNet_base_num_features"] = base;
    changed["configurations"]["old"]["unet_max_num_features"] = most;
    return error_of([&] { config_from_plans(changed, "old", "", kEnds, "plans.json"); });
  };
  const auto largest = std::numeric_limits<std::int64_t>::max();
  EXPECT_EQ(width_error(largest, 12), "");
  EXPECT_THAT(width_error(largest / 2, largest), HasSubstr("features_per_stage"));
  for (const Json& width : {Json(0), Json(-1), Json(std::numeric_limits<std::uint64_t>::max())}) {
    EXPECT_THAT(width_error(width, 12), HasSubstr("the numbers of features or of stages are none"));
  }
  EXPECT_THAT(error("other"), HasSubstr("plans.json: other: the network is a OtherUNet"));
  EXPECT_THAT(error("own"), HasSubstr("plans.json: own: the network is a OtherUNet"));
  EXPECT_THAT(error("2d"), ::testing::AllOf(HasSubstr("plans.json: 2d: "), HasSubstr("conv_op")));
  EXPECT_THAT(error_of([&] { config_from_plans(plans, "old", "", {}, "plans.json"); }),
              HasSubstr("the plans do not tell the channels"));
  EXPECT_THAT(error_of([] {
                config_from_plans({{"a", 1}}, "old", "", kEnds, "p.json");
              }),
              HasSubstr("p.json: no plans of nnU-Net v2"));
  const auto with_arguments = [](const Json& arguments) {
    const Json architecture = {{"network_class_name", "PlainConvUNet"}, {"arch_kwargs", arguments}};
    const Json all = {{"configurations", {{"a", {{"architecture", architecture}}}}}};
    return error_of([&] { config_from_plans(all, "a", "", kEnds, "p.json"); });
  };
  for (const auto& arguments : {Json(), Json::array({1, 2}), Json("text"), Json(3)}) {
    EXPECT_EQ(with_arguments(arguments),
              "p.json: a: \"arch_kwargs\" must be an object with the network's arguments");
  }
  EXPECT_THAT(with_arguments(Json::object()), HasSubstr("there is no \"features_per_stage\""));
}

// Lists and heirs without end would take much memory and time.
TEST(Plans, HaveLimits) {
  Json chain;
  for (int i = 0; i < 40; ++i) {
    chain["configurations"][concat(i)] = {{"inherits_from", concat(i + 1)}};
  }
  const auto error = [](const Json& plans, const std::string& configuration) {
    return error_of([&] { config_from_plans(plans, configuration, "", kEnds, "p.json"); });
  };
  EXPECT_EQ(error(chain, "0"), "p.json: the configuration 0 inherits from more than 32 others");
  EXPECT_THAT(error(chain, "8"), HasSubstr("there is no configuration \"40\""));
  auto plans = parse_json(kPlans, "plans.json");
  plans["other"] = Json(std::size_t{9000}, Json(0));
  EXPECT_EQ(error(plans, "old"), "");
  plans["other"] = Json(std::size_t{10'000}, Json(0));
  EXPECT_EQ(error(plans, "old"), "p.json: the plans hold more than 10000 values");
}

// The same for torch.save.
Value value_of(const Json& json) {
  if (json.is_object()) {
    Dict dict;
    for (const auto& [key, value] : json.items()) dict.set(key, value_of(value));
    return dict;
  }
  if (json.is_array()) {
    List list;
    for (const auto& value : json) list.push_back(value_of(value));
    return list;
  }
  if (json.is_boolean()) return json.get<bool>();
  if (json.is_number_integer()) return json.get<std::int64_t>();
  if (json.is_number()) return json.get<double>();
  if (json.is_string()) return json.get<std::string>();
  return {};
}

// Which of them is of use does not depend on the other.
TEST(ConfigInside, BesidePlans) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "checkpoint.pth";
  const auto read = [&](const std::string& config, Json plans) {
    Dict arguments, checkpoint;
    arguments.set("plans", value_of(plans));
    arguments.set("configuration", "old");
    checkpoint.set("network_weights", tensor_dict(kEnds));
    checkpoint.set("init_args", arguments);
    checkpoint.set("config", config);
    write_archive(path, checkpoint);
    return read_state_dict(path);
  };
  const auto plans = parse_json(kPlans, "plans.json");
  const auto of_plans = read("learning_rate: 0.1\n", plans);
  EXPECT_THAT(of_plans.config, HasSubstr("nnunet_resenc"));
  EXPECT_EQ(of_plans.config_problem, "");
  EXPECT_THAT(of_plans.notes, ::testing::Contains(HasSubstr("not used: the config inside")));
  const std::string own = "model:\n  name: unetr\n";
  EXPECT_EQ(read(own, plans).config, own);
  EXPECT_EQ(read(own, Json::object()).config_problem, "");
}

class ImportProgramTest : public ::testing::Test {
 protected:
  struct Outcome {
    int exit_code;
    std::string out, err;
  };
  Outcome run(const std::string& arguments) const {
    const auto command = concat("cd '", folder_.path().string(), "' && '", SEGMAMBA_BIN_DIR,
                                "/segmamba-model' ", arguments, " > out.txt 2> err.txt");
    const int status = std::system(command.c_str());
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, read_file(folder_.path() / "out.txt"),
            read_file(folder_.path() / "err.txt")};
  }
  std::filesystem::path file(const std::string& name) const { return folder_.path() / name; }

  TemporaryFolder folder_;
};

// A UNETR for inputs of 32^3, of whose file nothing tells so but the shapes.
TEST_F(ImportProgramTest, NetworksOfOneInputSize) {
  ModelConfig config;
  config.name = "unetr";
  config.in_channels = 1;
  config.unetr = {.img_size = {32, 32, 32}, .feature_size = 4, .hidden_size = 12, .mlp_dim = 20};
  config.unetr.num_heads = 3;
  const auto model = make_model(config);
  write_safetensors(file("upstream.safetensors"), {.tensors = state_dict(*model), .metadata = {}});
  const std::string import =
      "import --from upstream.safetensors --model unetr --output model.safetensors --set "
      "model.in_channels=1 model.feature_size=4 model.hidden_size=12 model.mlp_dim=20 "
      "model.num_heads=3 ";
  const auto without = run(import);
  EXPECT_EQ(without.exit_code, 1);
  EXPECT_THAT(without.err, HasSubstr("--set model.img_size=[32,32,32]"));
  const auto other = run(import + "'model.img_size=[48,32,32]'");
  EXPECT_EQ(other.exit_code, 0) << other.err;
  EXPECT_THAT(other.out, HasSubstr("trained with: --set model.img_size=[32,32,32]\n"));
  const auto right = run(import + "'model.img_size=[32,32,32]' --strict");
  ASSERT_EQ(right.exit_code, 0) << right.err;
  EXPECT_THAT(right.out, ::testing::Not(HasSubstr("--set")));

  // What was imported says which network it is of.
  const auto input = torch::randn({1, 1, 32, 32, 32});
  write_safetensors(file("input.safetensors"), {.tensors = {{"input", input}}, .metadata = {}});
  const std::string forward = " --input input.safetensors --output logits.safetensors";
  const auto forwarded = run("forward --weights model.safetensors" + forward);
  ASSERT_EQ(forwarded.exit_code, 0) << forwarded.err;
  model->eval();
  const c10::InferenceMode inference;
  EXPECT_TRUE(torch::allclose(read_safetensors(file("logits.safetensors")).tensors.at("logits"),
                              model->forward(input), 1e-5, 1e-5));
  const auto unnamed = run("forward --weights upstream.safetensors" + forward);
  EXPECT_EQ(unnamed.exit_code, 2);
  EXPECT_THAT(unnamed.err, HasSubstr("does not say which network it is of: give --config"));

  write_file_atomically(file("unetr.yaml"), model_section(config_to_yaml(config)));
  EXPECT_THAT(run("compare --config unetr.yaml --size 48").out,
              ContainsRegex("unetr +the network was made for 32x32x32 alone"));
}

TEST_F(ImportProgramTest, DamagedConfigsAndPoorFits) {
  ModelConfig config;
  config.segmamba = {.dims = {4, 6}, .depths = {1, 1}, .hidden_size = 8};
  const auto state = state_dict(*make_model(config));
  write_safetensors(file("damaged.safetensors"),
                    {.tensors = state, .metadata = {{"model", "name: segmambo\n"}}});
  const std::string import = "import --output model.safetensors --from ";
  const auto damaged = run(import + "damaged.safetensors");
  EXPECT_EQ(damaged.exit_code, 1);
  EXPECT_THAT(damaged.err, ::testing::AllOf(HasSubstr("damaged.safetensors: the config inside:2: "),
                                            HasSubstr("; give --model")));
  write_file_atomically(file("small.yaml"), model_section(config_to_yaml(config)));
  const auto known = run(import + "damaged.safetensors --config small.yaml");
  EXPECT_EQ(known.exit_code, 0) << known.err;
  EXPECT_THAT(known.out, HasSubstr("not used: the config inside:2: "));
  EXPECT_EQ(known.err, "");

  TensorMap part;
  for (const auto& [name, tensor] : state) {
    if (starts_with(name, "encoder1.")) part[name] = tensor;
  }
  write_safetensors(file("part.safetensors"), {.tensors = part, .metadata = {}});
  const auto poor = run(import + "part.safetensors --config small.yaml");
  EXPECT_EQ(poor.exit_code, 0) << poor.err;
  EXPECT_THAT(poor.err, ContainsRegex("only [0-9.]+ % of the network's numbers were loaded"));
}

// nnU-Net's checkpoints hold their plans.
TEST_F(ImportProgramTest, CheckpointsOfNnUnetAreOfTheirPlans) {
  const auto plans = parse_json(kPlans, "plans.json");
  for (const auto& [trainer, configuration, network] : std::vector<std::array<const char*, 3>>{
           {"nnUNetTrainer", "3d_fullres", ""},
           {"nnUNetTrainerUMambaBot", "old", "umamba_bot"},
           {"nnUNetTrainerUMambaEncNoAMP", "old", "umamba_enc"}}) {
    const auto config = config_from_plans(plans, configuration, network, kEnds, "plans.json");
    const auto state = upstream_state_dict(config, state_dict(*make_model(config)));
    Dict arguments, checkpoint;
    arguments.set("plans", value_of(plans));
    arguments.set("configuration", configuration);
    checkpoint.set("network_weights", tensor_dict(state));
    checkpoint.set("init_args", arguments);
    checkpoint.set("trainer_name", trainer);
    write_archive(file("checkpoint_final.pth"), checkpoint);
    const auto outcome =
        run("import --from checkpoint_final.pth --output model.safetensors --strict");
    ASSERT_EQ(outcome.exit_code, 0) << trainer << outcome.out << outcome.err;
    EXPECT_EQ(read_state_dict(file("model.safetensors")).config,
              model_section(config_to_yaml(config)));
    // The weights alone, and the plans beside them.
    write_archive(file("weights.pth"), tensor_dict(state));
    write_file_atomically(file("plans.json"), std::string(kPlans));
    const auto beside = run(concat("import --from weights.pth --plans plans.json --configuration ",
                                   configuration, *network == 0 ? "" : concat(" --model ", network),
                                   " --output model.safetensors --strict"));
    EXPECT_EQ(beside.exit_code, 0) << beside.out << beside.err;
  }
}

// What a file says of its network holds for its weights, whichever network is asked for.
TEST_F(ImportProgramTest, TellsInWhatTheNetworkOfTheFileDiffers) {
  ModelConfig config;
  config.name = "swin_unetr";
  config.swin_unetr.feature_size = 6;
  config.swin_unetr.depths = {1, 1, 1, 1};
  config.swin_unetr.num_heads = {1, 2, 3, 4};
  config.swin_unetr.merging = "legacy";
  const auto state = state_dict(*make_model(config));
  const auto import = [&](const std::map<std::string, std::string>& metadata) {
    write_safetensors(file("swin.safetensors"), {.tensors = state, .metadata = metadata});
    return "import --from swin.safetensors --output model.safetensors --set "
           "model.feature_size=6 'model.depths=[1,1,1,1]' 'model.num_heads=[1,2,3,4]' ";
  };
  const auto difference = HasSubstr("the file's network has merging: legacy (here merging)"),
             unknown = HasSubstr("no file tells");
  const auto legacy = import({{"model", config_to_yaml(config)}});
  for (const auto* other : {"--model swin_unetr", "model.merging=merging"}) {
    const auto outcome = run(std::string(legacy) + other);
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    EXPECT_THAT(outcome.out, ::testing::AllOf(difference, ::testing::Not(unknown)));
  }
  EXPECT_THAT(run(legacy).out, ::testing::Not(::testing::AnyOf(difference, unknown)));
  // Nothing is said, or something of another network, as plans in a checkpoint do.
  for (const auto& metadata :
       {std::map<std::string, std::string>{}, {{"model", "name: nnunet\n"}}}) {
    EXPECT_THAT(run(std::string(import(metadata)) + "--model swin_unetr").out, unknown);
  }
}

TEST_F(ImportProgramTest, OtherKernelsAndChannels) {
  ModelConfig config;
  config.name = "mednext";
  config.in_channels = 2;
  config.mednext.n_channels = 4;
  config.mednext.block_counts = {1, 1, 1, 1, 1, 1, 1, 1, 1};
  write_safetensors(file("k3.safetensors"), {.tensors = state_dict(*make_model(config)),
                                             .metadata = {{"model", config_to_yaml(config)}}});
  const std::string import =
      "import --from k3.safetensors --output k5.safetensors --set model.kernel_size=5 "
      "model.in_channels=4 ";
  const auto mean = run(import + "--first-layer mean");
  EXPECT_EQ(mean.exit_code, 0) << mean.err;
  // One in each block, and in each change of resolution.
  EXPECT_THAT(mean.out, ::testing::AllOf(HasSubstr("17 kernels enlarged"),
                                         HasSubstr("stem.weight: weights of 2 channels made those"),
                                         HasSubstr("100 % of the network's numbers")));
  EXPECT_THAT(mean.out, HasSubstr("the file's network has kernel_size: 3 (here 5)\n"));
  const auto strict = run(import + "--first-layer mean --strict");
  EXPECT_EQ(strict.exit_code, 2);
  EXPECT_THAT(strict.err, HasSubstr("--first-layer mean changes weights that do not fit"));
  EXPECT_EQ(run(import + "--strict").exit_code, 1);
  EXPECT_THAT(run(import).out, HasSubstr("stem.weight (file float32 [4, 2, 1, 1, 1]"));
  EXPECT_EQ(run(import + "--first-layer median").exit_code, 2);
}

TEST_F(ImportProgramTest, UnknownNetworksAreNamedWhereTheyStand) {
  write_file_atomically(file("unknown.yaml"), std::string("model: {name: unetrr}\n"));
  const auto outcome = run("compare --config unknown.yaml");
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_THAT(outcome.err, HasSubstr("unknown.yaml:1: model.name"));
  EXPECT_THAT(outcome.err, ::testing::Not(HasSubstr("--models")));
}

}  // namespace
}  // namespace segmamba::nn
