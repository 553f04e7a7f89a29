// What verify() takes beside the golden files as they are: the names and words of the originals.

#include "segmamba/nn/verify.h"

#include <gmock/gmock.h>
#include <torch/torch.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <map>

#include "segmamba/core/json.h"
#include "segmamba/core/text.h"
#include "segmamba/nn/upstream_config.h"
#include "segmamba/nn/upstream_weights.h"
#include "support/error_of.h"

namespace segmamba::nn {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

namespace fs = std::filesystem;

const fs::path kZoo = fs::path(SEGMAMBA_TEST_DATA) / "nn/zoo";
const fs::path kOptions = fs::path(SEGMAMBA_TEST_DATA) / "nn/options";

TensorFile golden(const std::string& name) {
  return read_safetensors(kZoo / concat(name, ".safetensors"));
}
bool is_weight(const std::string& name) { return !starts_with(name, "golden/"); }

// Calls weights and parameters otherwise.
void rename(TensorFile& file, const std::function<std::string(const std::string&)>& other) {
  std::map<std::string, torch::Tensor> tensors;
  for (const auto& [name, tensor] : file.tensors) {
    tensors[is_weight(name) ? other(name) : name] = tensor;
  }
  file.tensors = tensors;
  auto parameters = parse_json(file.metadata.at("parameters"), "parameters");
  for (auto& name : parameters) name = other(name.get<std::string>());
  file.metadata["parameters"] = parameters.dump();
}
void change_config(TensorFile& file, const std::function<void(Json&)>& change) {
  auto config = parse_json(file.metadata.at("config"), "config");
  change(config);
  file.metadata["config"] = config.dump();
}
std::string error(const TensorFile& file) {
  return test::error_of([&] { verify(file, "file.safetensors", torch::kFloat64); });
}

// Originals with other options than those of the zoo (scripts/make_golden.py wrote the files).
class VerifyOptions : public ::testing::TestWithParam<std::string> {};

TEST_P(VerifyOptions, ComputeWhatTheOriginalComputes) {
  const auto path = kOptions / (GetParam() + ".safetensors");
  const auto file = read_safetensors(path);
  for (const auto type : {torch::kFloat64, torch::kFloat32}) {
    const auto result = verify(file, path, type);
    for (const auto* list : {&result.outputs, &result.gradient_norms, &result.gradient_dots}) {
      for (const auto& deviation : *list) {
        EXPECT_LE(deviation.relative, deviation.allowed) << type << " " << deviation.name;
      }
    }
  }
}

std::vector<std::string> names_of_options() {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(kOptions)) {
    names.push_back(entry.path().stem());
  }
  std::sort(names.begin(), names.end());
  return names;
}

INSTANTIATE_TEST_SUITE_P(Options, VerifyOptions, ::testing::ValuesIn(names_of_options()),
                         [](const auto& info) { return info.param; });

TEST(VerifyNames, MayHaveThePrefixesOfWrappers) {
  auto file = golden("segresnet");
  rename(file, [](const auto& name) { return "module._orig_mod." + name; });
  EXPECT_TRUE(verify(file, "file", torch::kFloat64).passes());
}

// nnU-Net registers its layers under several names, of which files may have any.
TEST(VerifyNames, MayBeTheSecondNamesOfNnUnet) {
  auto file = golden("nnunet_resenc");
  const auto config = config_from_upstream(
      "nnunet_resenc", parse_json(file.metadata.at("config"), "config"), "file");
  TensorMap weights;
  for (const auto& [name, tensor] : file.tensors) {
    if (is_weight(name)) weights[name] = tensor;
  }
  const auto all = upstream_state_dict(config, weights);
  ASSERT_GT(all.size(), 2 * weights.size());
  file.tensors.insert(all.begin(), all.end());
  auto parameters = parse_json(file.metadata.at("parameters"), "parameters");
  int renamed = 0;
  for (auto& item : parameters) {
    const std::string unit = ".conv.weight";
    auto name = item.get<std::string>();
    if (!ends_with(name, unit)) continue;
    name.replace(name.size() - unit.size(), unit.size(), ".all_modules.0.weight");
    ASSERT_TRUE(all.contains(name)) << name;
    item = starts_with(name, "encoder.") ? "decoder." + name : name;
    ++renamed;
  }
  ASSERT_GT(renamed, 3);
  file.metadata["parameters"] = parameters.dump();
  const auto result = verify(file, "file", torch::kFloat64);
  EXPECT_TRUE(result.passes());
  EXPECT_THAT(result.notes, IsEmpty());

  auto& alias = file.tensors.at("decoder.encoder.stem.convs.0.conv.weight");
  alias = alias + 1;
  EXPECT_THAT(error(file), AllOf(StartsWith("file.safetensors: "), HasSubstr("different values")));
}

// Parameters that the original never uses, and this network leaves out.
TEST(VerifyNames, UnusedParametersOfOlderReleasesMayBeThere) {
  auto file = golden("unetr");
  const std::string name = "vit.blocks.0.cross_attn.to_q.weight";
  file.tensors[name] = torch::ones({12, 12});
  auto parameters = parse_json(file.metadata.at("parameters"), "parameters");
  parameters.push_back(name);
  file.metadata["parameters"] = parameters.dump();
  for (const auto* key : {"golden/grad_norm", "golden/grad_dot"}) {
    file.tensors[key] = torch::cat({file.tensors.at(key), torch::zeros({1})});
  }
  const auto result = verify(file, "file", torch::kFloat64);
  EXPECT_TRUE(result.passes());
  EXPECT_EQ(result.gradient_norms.size(), parameters.size() + 1);
}

TEST(VerifyBlocks, TakeTheWordsOfTheirConstructors) {
  auto file = golden("vmamba_block_2d");
  change_config(file, [](auto& config) {
    config = Json{{"hidden_dim", config["dim"]},
                  {"ssm_d_state", 1.0},
                  {"ssm_ratio", 1},
                  {"ssm_conv", 3},
                  {"ssm_conv_bias", false},
                  {"forward_type", "v05_noz"},
                  {"channel_first", true},
                  {"drop_path", 0.1}};
  });
  EXPECT_TRUE(verify(file, "file", torch::kFloat64).passes());
  const auto with = [&](const char* name, const Json& value) {
    auto other = file;
    change_config(other, [&](auto& config) { config[name] = value; });
    return error(other);
  };
  EXPECT_EQ(with("ssm_d_state", 24.9),
            "file.safetensors: vmamba_block_2d: ssm_d_state must be an integer, got 24.9");
  EXPECT_EQ(with("ssm_d_state", nullptr),
            "file.safetensors: vmamba_block_2d: ssm_d_state must be an integer, got null");
  EXPECT_EQ(with("ssm_d_state", 0),
            "file.safetensors: ssm_d_state must be an integer from 1 to 64, got '0'");
  EXPECT_EQ(with("ssm_ratio", 0.05),
            "file.safetensors: ssm_ratio: 0.05 of 12 channels is less than one");
  EXPECT_EQ(with("ssm_conv", 5),
            "file.safetensors: vmamba_block_2d with ssm_conv = 5 is not supported, only 3");
  EXPECT_THAT(with("forward_type", "v2"),
              HasSubstr("forward_type must be one of v05, v05_noz, got 'v2'"));
  EXPECT_THAT(with("ssm_convs", 5), HasSubstr("vmamba_block_2d has no argument ssm_convs; did you "
                                              "mean ssm_conv? It has hidden_dim, dim,"));
  auto none = file;
  change_config(none, [](auto& config) { config = Json::array(); });
  EXPECT_EQ(error(none), "file.safetensors: the arguments must be a JSON object");
  change_config(none, [](auto& config) { config = Json::object(); });
  EXPECT_EQ(error(none), "file.safetensors: vmamba_block_2d: hidden_dim must be given");
  // VMamba has a bias in its convolutions where nothing is said.
  change_config(file, [](auto& config) { config.erase("ssm_conv_bias"); });
  EXPECT_THAT(error(file), HasSubstr("op.conv2d.bias"));
}

// Arguments that change nothing, or stand for what the blocks are.
TEST(VerifyBlocks, TakeArgumentsThatChangeNoResult) {
  const auto with = [](const char* name, const char* arguments) {
    auto file = golden(name);
    change_config(file, [&](auto& config) { config.update(parse_json(arguments, "test")); });
    return file;
  };
  EXPECT_TRUE(
      verify(with("vmamba_block_2d", R"({"ssm_act_layer": "torch.nn.modules.activation.SiLU",
      "mlp_act_layer": "gelu", "norm_layer": "models.vmamba.LayerNorm2d", "gmlp": false,
      "ssm_dt_rank": "auto", "ssm_init": "v0", "ssm_drop_rate": 0.0, "mlp_drop_rate": 0.1,
      "use_checkpoint": true, "post_norm": false})"),
             "file", torch::kFloat64)
          .passes());
  EXPECT_TRUE(verify(with("vim_blocks", R"({"norm_epsilon": 1e-05, "drop_path": 0.1,
      "rms_norm": true, "residual_in_fp32": true, "fused_add_norm": true, "layer_idx": 3,
      "if_bimamba": false, "bimamba_type": "v2", "init_layer_scale": null, "if_cls_token": false,
      "ssm_cfg": {"d_conv": 4}})"),
                     "file", torch::kFloat64)
                  .passes());
  for (const auto* argument :
       {R"({"ssm_act_layer": "gelu"})", R"({"mlp_act_layer": "torch.nn.ReLU"})",
        R"({"norm_layer": "torch.nn.BatchNorm2d"})", R"({"gmlp": true})",
        R"({"post_norm": true})"}) {
    EXPECT_THAT(error(with("vmamba_block_2d", argument)), HasSubstr("is not supported, only "))
        << argument;
  }
  for (const auto* argument :
       {R"({"norm_epsilon": 1e-6})", R"({"rms_norm": false})", R"({"if_bimamba": true})",
        R"({"bimamba_type": "v1"})", R"({"init_layer_scale": 0.1})",
        R"({"ssm_cfg": {"expand": 1}})", R"({"if_cls_token": true})"}) {
    EXPECT_THAT(error(with("vim_blocks", argument)), HasSubstr("is not supported, only "))
        << argument;
  }
}

TEST(VerifyBlocks, TakeImagesWithTheirChannelsLast) {
  auto file = golden("vmamba_block_2d");
  for (const auto* name : {"golden/input", "golden/logits"}) {
    auto& tensor = file.tensors.at(name);
    tensor = tensor.permute({0, 2, 3, 1}).contiguous();
  }
  // The factors of the loss are those of the axes in their order.
  const auto c = file.tensors.at("golden/r.c"), h = file.tensors.at("golden/r.h"),
             w = file.tensors.at("golden/r.w");
  file.tensors.at("golden/r.c") = h;
  file.tensors.at("golden/r.h") = w;
  file.tensors.at("golden/r.w") = c;
  EXPECT_NE(error(file), "");
  change_config(file, [](auto& config) { config["channel_first"] = false; });
  const auto result = verify(file, "file", torch::kFloat64);
  for (const auto* list : {&result.outputs, &result.gradient_norms}) {
    for (const auto& deviation : *list) EXPECT_TRUE(deviation.passes()) << deviation.name;
  }
}

// The file of the zoo was made by such a MONAI, and says so in our words.
TEST(VerifySwinUnetr, ASizeOfTheInputTellsTheOldMerging) {
  auto file = golden("swin_unetr");
  change_config(file, [](auto& config) {
    config.erase("merging");
    config["img_size"] = Json::array({32, 32, 96});
    config["downsample"] = "merging";
  });
  EXPECT_TRUE(verify(file, "file", torch::kFloat64).passes());
  change_config(file, [](auto& config) { config.erase("img_size"); });
  EXPECT_FALSE(verify(file, "file", torch::kFloat64).passes());
}

TEST(VerifyErrors, SpeakTheWordsOfTheOriginal) {
  auto file = golden("uxnet");
  change_config(file, [](auto& config) { config["in_chans"] = 3; });
  EXPECT_THAT(error(file), HasSubstr("file.safetensors: "));
  file = golden("transbts");
  change_config(file, [](auto& config) { config["heads"] = 3; });
  EXPECT_THAT(error(file), ::testing::Not(HasSubstr("model.")));
  file = golden("segresnet");
  file.metadata.erase("config");
  EXPECT_EQ(error(file),
            "file.safetensors: no metadata config: it is no golden file (scripts/make_golden.py "
            "makes one)");
}

// Short rows that make a tensor of 2.8e14 numbers.
TEST(VerifyErrors, FactorsAreHeldToTheOutputBeforeTheyAreMultiplied) {
  auto file = golden("segresnet");
  for (const auto* name : {"golden/r.c", "golden/r.d", "golden/r.h", "golden/r.w"}) {
    file.tensors.at(name) = torch::ones({4096});
  }
  EXPECT_THAT(error(file), HasSubstr("file.safetensors: golden/r.* are of sizes [4096, 4096, 4096, "
                                     "4096], the output of [1, "));
}

TEST(VerifyNotes, TellWhereMoreWasAllowed) {
  auto file = golden("segresnet");
  EXPECT_THAT(verify(file, "file", torch::kFloat32).notes, IsEmpty());
  file.metadata.erase("float32_max_abs_error");
  EXPECT_THAT(verify(file, "file", torch::kFloat64).notes, IsEmpty());
  EXPECT_THAT(verify(file, "file", torch::kFloat32).notes,
              ElementsAre("the file has no float32_max_abs_error: outputs may differ by 0.001 of "
                          "the largest logit"));
}

}  // namespace
}  // namespace segmamba::nn
