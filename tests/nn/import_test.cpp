// What a weights file says of its network, and what people are told where it does not fit: by the
// library, and by segmamba-model as a process.

#include <gmock/gmock.h>
#include <sys/wait.h>

#include <cstdlib>

#include "segmamba/core/files.h"
#include "segmamba/core/text.h"
#include "segmamba/nn/archive.h"
#include "segmamba/nn/model.h"
#include "segmamba/nn/state_dict.h"
#include "segmamba/nn/upstream_weights.h"
#include "segmamba/nn/weights.h"
#include "support/temporary_folder.h"

namespace segmamba::nn {
namespace {

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

  Dict content;
  content.set("model", tensor_dict({{"a", torch::ones({1})}}));
  content.set("config", std::string("model: [1, 2]\n"));
  write_archive(path, content);
  EXPECT_THAT(read_state_dict(path).config_problem, HasSubstr("the config inside:1: model"));
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

TEST_F(ImportProgramTest, UnknownNetworksAreNamedWhereTheyStand) {
  write_file_atomically(file("unknown.yaml"), std::string("model: {name: unetrr}\n"));
  const auto outcome = run("compare --config unknown.yaml");
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_THAT(outcome.err, HasSubstr("unknown.yaml:1: model.name"));
  EXPECT_THAT(outcome.err, ::testing::Not(HasSubstr("--models")));
}

}  // namespace
}  // namespace segmamba::nn
