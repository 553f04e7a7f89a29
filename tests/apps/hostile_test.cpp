// The programs are given weights of strangers: one clear line each, nothing is run or written, and
// memory stays what a sound file takes.
#include <gmock/gmock.h>
#include <torch/torch.h>

#include <fstream>

#include "nn/hostile_files.h"
#include "programs.h"
#include "segmamba/nn/model.h"
#include "segmamba/nn/weights.h"

namespace segmamba {
namespace {

namespace fs = std::filesystem;
using test::global;
using test::Outcome;
using test::pickled;
using test::repeated;
using test::sound_zip;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

struct MeasuredOutcome : Outcome {
  std::int64_t peak_bytes;  // resident at once, above what LibTorch takes (with CUDA, 460 MB)
};

class Hostile : public test::Programs {
 protected:
  MeasuredOutcome measure(const std::vector<std::string>& words) {
    static const auto of_libtorch = measure_all({"segmamba-model", "--version"}).peak_bytes;
    auto outcome = measure_all(words);
    outcome.peak_bytes -= of_libtorch;
    return outcome;
  }
  MeasuredOutcome measure_all(std::vector<std::string> words) {
    words[0] = concat(SEGMAMBA_BIN_DIR, "/", words[0]);
    words.insert(words.begin(), {SEGMAMBA_MEASURE_PEAK, "peak.txt"});
    const Outcome outcome = run(words);
    return {outcome, std::stoll(read_file(folder_.path() / "peak.txt"))};
  }
  // Every program that takes weights, with this file; those first that read it each in its own way.
  std::vector<std::vector<std::string>> commands(const std::string& file) const {
    fs::create_directories(folder_.path() / "run/checkpoints");
    fs::copy_file(folder_.path() / file, folder_.path() / "run/checkpoints/last.pt",
                  fs::copy_options::overwrite_existing);
    return {{"segmamba-infer", "--checkpoint", file, "--input", cases(), "--output", "out"},
            train_command({"--set", "model.init_from=" + file, "--output", "new"}),
            train_command({"--resume", "--output", "run"}),
            {"segmamba-model", "import", "--from", file, "--output", "out.safetensors"},
            {"segmamba-model", "export", "--from", file, "--output", "out.pt"},
            {"segmamba-model", "info", "--checkpoint", file, "--size", "16"},
            {"segmamba-model", "forward", "--weights", file, "--input", "input.safetensors",
             "--output", "out.safetensors"},
            {"segmamba-model", "verify", file, "--output", "out.safetensors"}};
  }
  void write(const std::string& name, const std::string& bytes) const {
    std::ofstream(folder_.path() / name, std::ios::binary) << bytes;
  }
  static void expect_little(const MeasuredOutcome& outcome) {
    // The sanitizers have memory of their own.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    EXPECT_LT(outcome.peak_bytes, std::int64_t{200} << 20);
#endif
  }
  // The first `count` of them refuse it, all but `verify` because of `why`: that takes safetensors
  // alone.
  void expect_refused(const std::string& file, const std::string& why, std::size_t count = 3) {
    nn::write_safetensors(
        folder_.path() / "input.safetensors",
        {.tensors = {{"input", torch::ones({1, 4, 16, 16, 16})}}, .metadata = {}});
    auto tried = commands(file);
    tried.resize(std::min(count, tried.size()));
    for (const auto& command : tried) {
      SCOPED_TRACE(join(command, " "));
      const auto outcome = measure(command);
      EXPECT_EQ(outcome.exit_code, 1) << outcome.err;
      EXPECT_EQ(test::line_count(outcome.err), 1) << outcome.err;
      EXPECT_THAT(outcome.err, HasSubstr(command[0] + ": "));
      EXPECT_THAT(outcome.err, HasSubstr(command[1] == "verify" ? "not a safetensors file" : why));
      expect_little(outcome);
      EXPECT_FALSE(fs::exists(folder_.path() / "owned"));
      for (const auto* output : {"out", "out.pt", "out.safetensors"}) {
        EXPECT_FALSE(fs::exists(folder_.path() / output));
      }
    }
  }
};

TEST_F(Hostile, APickleThatCalls) {
  write(
      "call.pt",
      sound_zip("\x80\2" + global("posix", "system") + pickled("touch owned") + "\x85R.").bytes());
  expect_refused("call.pt", "\"posix.system\" is not plain data", 8);
}

TEST_F(Hostile, APickleThatUnfolds) {
  write("unfold.pt",
        sound_zip("\x80\2(](" + repeated("N", 1000) + "eq\1](" + repeated("h\1", 1000) + "eq\2](" +
                  repeated("h\2", 1000) + "eq\3](" + repeated("h\3", 1000) + "et.")
            .bytes());
  expect_refused("unfold.pt", "too many values");
}

TEST_F(Hostile, AZipBomb) {
  auto zip = sound_zip();
  for (int i = 1; i < 200; ++i) {
    zip.entries.push_back({.name = concat("x/data/", i), .size = 1 << 20, .header = 0});
  }
  write("bomb.pt", zip.bytes());
  expect_refused("bomb.pt", "damaged zip archive: x/data/");
}

// What is no checkpoint of a run at all is said to be none by those that need one.
TEST_F(Hostile, ANetworkLargerThanItsFile) {
  nn::write_safetensors(
      folder_.path() / "huge.safetensors",
      {.tensors = {{"out.conv.conv.bias", torch::ones({4})}},
       .metadata = {{"format", "pt"},
                    {"model", "dims: [65536, 65536]\ndepths: [1, 1]\nhidden_size: 65536\n"}}});
  write("huge.yaml", "model: {dims: [65536, 65536], depths: [1024, 1024]}\n");
  for (const auto& [command, why] : std::vector<std::pair<std::vector<std::string>, std::string>>{
           {{"segmamba-model", "info", "--checkpoint", "huge.safetensors"},
            "weights do not fit the model"},
           {{"segmamba-model", "import", "--from", "huge.safetensors", "--output", "out.pt"},
            "holds less than half of that network's numbers"},
           {{"segmamba-model", "export", "--from", "huge.safetensors", "--output", "out.pt"},
            "holds less than half of that network's numbers"},
           // Here the user asks for it.
           {{"segmamba-model", "info", "--config", "huge.yaml"},
            "left: take fewer channels or layers"},
           {train_command(
                {"--set", "model.dims=[65536,65536]", "model.depths=[1,1]", "--output", "new"}),
            "left: take fewer channels or layers"}}) {
    SCOPED_TRACE(join(command, " "));
    const auto outcome = measure(command);
    EXPECT_EQ(outcome.exit_code, 1) << outcome.out << outcome.err;
    EXPECT_EQ(test::line_count(outcome.err), 1) << outcome.err;
    EXPECT_THAT(outcome.err, AllOf(HasSubstr(command[0] + ": "), HasSubstr(why)));
    expect_little(outcome);
    EXPECT_FALSE(fs::exists(folder_.path() / "out.pt"));
  }
}

TEST_F(Hostile, InputsThatHoldNothing) {
  write("model.yaml", "model: {dims: [4], depths: [1], hidden_size: 4}\n");
  const auto model = nn::make_model([] {
    nn::ModelConfig config;
    config.segmamba.dims = {4};
    config.segmamba.depths = {1};
    config.segmamba.hidden_size = 4;
    return config;
  }());
  nn::write_safetensors(folder_.path() / "weights.safetensors",
                        {.tensors = nn::state_dict(*model), .metadata = {}});
  for (const auto& shape :
       std::vector<std::vector<std::int64_t>>{{0, 4, 16, 16, 16}, {1, 4, 0, 16, 16}, {0}}) {
    nn::write_safetensors(folder_.path() / "input.safetensors",
                          {.tensors = {{"input", torch::ones(shape)}}, .metadata = {}});
    const Outcome outcome =
        run({"segmamba-model", "forward", "--config", "model.yaml", "--weights",
             "weights.safetensors", "--input", "input.safetensors", "--output", "out.safetensors"});
    EXPECT_EQ(outcome.exit_code, 1) << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr("segmamba-model: input "));
    EXPECT_EQ(test::line_count(outcome.err), 1) << outcome.err;
  }
}

}  // namespace
}  // namespace segmamba
