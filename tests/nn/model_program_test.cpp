// segmamba-model as a process: comparing networks, and holding them to golden files.

#include <gmock/gmock.h>
#include <sys/wait.h>

#include <cstdlib>
#include <filesystem>

#include "segmamba/core/files.h"
#include "segmamba/core/text.h"
#include "segmamba/nn/weights.h"
#include "support/temporary_folder.h"

namespace segmamba::nn {
namespace {

using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;

class ModelProgramTest : public ::testing::Test {
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
  void write(const std::string& name, const std::string& text) const {
    write_file_atomically(folder_.path() / name, text);
  }
  static std::string golden(const std::string& name) {
    return concat("'", SEGMAMBA_TEST_DATA, "/nn/zoo/", name, ".safetensors'");
  }
  test::TemporaryFolder folder_;
};

TEST_F(ModelProgramTest, ComparesNetworksSideBySide) {
  write("small_unetr.yaml",
        "model: {name: unetr, in_channels: 1, feature_size: 4, hidden_size: 24, mlp_dim: 24, "
        "num_heads: 2}\n");
  write("small_swin.yaml", "model: {name: swin_unetr, feature_size: 12}\n");
  const auto outcome =
      run("compare --config small_unetr.yaml small_swin.yaml --size 32x16x16 --training");
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  // Parameters, GMACs, time and memory of a forward pass, time and memory of a training step.
  EXPECT_THAT(outcome.out, ContainsRegex("small_unetr +0\\.[0-9]+ +[0-9.]+ +[0-9.]+ s +[0-9.]+ "
                                         "[KMG]i?B +[0-9.]+ s +[0-9.]+ [KMG]i?B\n"));
  EXPECT_THAT(outcome.out, ContainsRegex("small_swin +each size must be a multiple of 32\n"));
  const auto unknown = run("compare --models unetrr");
  EXPECT_EQ(unknown.exit_code, 2);
  EXPECT_THAT(unknown.err, HasSubstr("did you mean unetr?"));
}

TEST_F(ModelProgramTest, ComparesAllNetworksWhereNoneIsNamed) {
  const auto outcome = run("compare --size 4");  // which none of them takes, so that none is run
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  std::vector<std::string> names;
  for (const auto& line : split(outcome.out, '\n')) {
    if (line.find("multiple of") != std::string::npos) names.push_back(split(line, ' ')[0]);
  }
  EXPECT_THAT(
      names, ::testing::ElementsAre("mednext", "nnformer", "nnunet", "nnunet_resenc", "segmamba",
                                    "segresnet", "swin_unetr", "swin_unetr_v2", "transbts",
                                    "umamba_bot", "umamba_enc", "unetr", "uxnet", "vim", "vmamba"));
}

TEST_F(ModelProgramTest, TellsWhereAPassAndATrainingStepGo) {
  write("small.yaml",
        "model: {in_channels: 1, dims: [4, 4], depths: [1, 1], hidden_size: 4}\n"
        "data: {patch_size: [16, 16, 16]}\n");
  const auto pass = run("bench --config small.yaml --device cpu --size 16");
  ASSERT_EQ(pass.exit_code, 0) << pass.err;
  EXPECT_THAT(pass.out, AllOf(HasSubstr("forward pass of [1, 1, 16, 16, 16] in fp32 on cpu"),
                              HasSubstr("  decoder1 "), Not(HasSubstr("backward"))));
  const auto step = run("bench --config small.yaml --device cpu --size 16 --training --batch 2");
  ASSERT_EQ(step.exit_code, 0) << step.err;
  EXPECT_THAT(step.out, AllOf(HasSubstr("training step of [2, 1, 16, 16, 16] in fp32 on cpu"),
                              HasSubstr("  norms "), HasSubstr("  optimizer "),
                              ContainsRegex("aten::convolution_backward .* decoder1, backward")));
  for (const auto* batch : {"0", "100000000"}) {
    const auto none =
        run(concat("bench --config small.yaml --device cpu --size 16 --batch ", batch));
    EXPECT_EQ(none.exit_code, 2);
    EXPECT_EQ(none.err,
              concat("segmamba-model: --batch must lie between 1 and 65536, got ", batch, "\n"));
  }
  const auto large = run("info --config small.yaml --size 16x99999999x16");
  EXPECT_EQ(large.exit_code, 2);
  EXPECT_EQ(large.err,
            "segmamba-model: --size: a side has at most 4096 voxels, got \"16x99999999x16\"\n");
}

TEST_F(ModelProgramTest, NoFileReplacesItself) {
  write("own.pt", "weights");
  write("own.safetensors", "numbers");
  std::filesystem::create_symlink("own.pt", folder_.path() / "link.pt");
  const auto expect_refused = [&](const std::string& arguments, const std::string& words) {
    const auto outcome = run(arguments);
    EXPECT_EQ(outcome.exit_code, 1) << arguments;
    EXPECT_EQ(outcome.err, concat("segmamba-model: --output ", words,
                                  ", which it would replace; give another name\n"));
  };
  expect_refused("export --from own.pt --output own.pt", "own.pt is the file of --from");
  expect_refused("import --from link.pt --output ./own.pt", "./own.pt is the file of --from");
  expect_refused("verify own.safetensors --output own.safetensors",
                 "own.safetensors is the golden file");
  expect_refused("forward --weights own.pt --input own.safetensors --output own.safetensors",
                 "own.safetensors is the file of --input");
  EXPECT_EQ(read_file(folder_.path() / "own.pt"), "weights");
  EXPECT_EQ(read_file(folder_.path() / "own.safetensors"), "numbers");
}

TEST_F(ModelProgramTest, HoldsNetworksToGoldenFiles) {
  const auto outcome = run("verify " + golden("segresnet") + " --output own.safetensors");
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, AllOf(HasSubstr("segresnet in float64"),
                                 HasSubstr("computes what its original computes")));
  const auto own = read_safetensors(folder_.path() / "own.safetensors").tensors;
  const auto file = read_safetensors(concat(SEGMAMBA_TEST_DATA, "/nn/zoo/segresnet.safetensors"));
  ASSERT_EQ(own.size(), 1U);
  EXPECT_EQ(own.at("golden/logits").scalar_type(), torch::kFloat64);
  EXPECT_TRUE(torch::allclose(own.at("golden/logits"),
                              file.tensors.at("golden/logits").to(torch::kFloat64), 1e-5, 1e-5));

  // One weight that is not the original's.
  auto other = file;
  other.tensors.at("conv_final.2.conv.bias") = file.tensors.at("conv_final.2.conv.bias") + 1e-3;
  write_safetensors(folder_.path() / "other.safetensors", other);
  const auto wrong = run("verify other.safetensors --dtype float32");
  EXPECT_EQ(wrong.exit_code, 1);
  EXPECT_THAT(wrong.err, HasSubstr("other.safetensors: the network differs from its original"));
  EXPECT_THAT(wrong.out, Not(HasSubstr("computes what its original computes")));
}

TEST_F(ModelProgramTest, WritesTheOutputsOfDeepSupervisionUnderTheNamesOfTheFile) {
  const auto outcome =
      run("verify " + golden("nnunet") + " --dtype float32 --output own.safetensors");
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(outcome.err, "");
  EXPECT_THAT(outcome.out, AllOf(HasSubstr("nnunet in float32"), HasSubstr("logits.2 "),
                                 HasSubstr("computes what its original computes")));
  const auto own = read_safetensors(folder_.path() / "own.safetensors").tensors;
  const auto file = read_safetensors(concat(SEGMAMBA_TEST_DATA, "/nn/zoo/nnunet.safetensors"));
  ASSERT_EQ(own.size(), 3U);
  for (const auto* name : {"golden/logits.0", "golden/logits.1", "golden/logits.2"}) {
    ASSERT_TRUE(own.contains(name)) << name;
    EXPECT_EQ(own.at(name).scalar_type(), torch::kFloat32) << name;
    EXPECT_EQ(own.at(name).sizes(), file.tensors.at(name).sizes()) << name;
    EXPECT_TRUE(torch::allclose(own.at(name), file.tensors.at(name), 1e-4, 1e-4)) << name;
  }
}

TEST_F(ModelProgramTest, OtherPrecisionsThanTheTwoAreErrorsOfOneLine) {
  for (const auto* dtype : {"int8", "bfloat16", "Float32", ""}) {
    const auto outcome =
        run(concat("verify ", golden("nnunet"), " --output own.safetensors --dtype '", dtype, "'"));
    EXPECT_EQ(outcome.exit_code, 2) << dtype;
    EXPECT_EQ(outcome.out, "") << dtype;
    EXPECT_EQ(outcome.err, concat("segmamba-model: --dtype: expected float32 or float64, got \"",
                                  dtype, "\"\n"));
    EXPECT_FALSE(std::filesystem::exists(folder_.path() / "own.safetensors"));
  }
}

}  // namespace
}  // namespace segmamba::nn
