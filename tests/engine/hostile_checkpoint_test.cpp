// Checkpoints from strangers: sound archives with a true hash, whose content no run has written.

#include <gmock/gmock.h>
#include <torch/torch.h>

#include <fstream>
#include <functional>

#include "segmamba/core/config.h"
#include "segmamba/core/files.h"
#include "segmamba/core/memory.h"
#include "segmamba/core/text.h"
#include "segmamba/data/phantom.h"
#include "segmamba/engine/checkpoint.h"
#include "segmamba/engine/predictor.h"
#include "segmamba/engine/trainer.h"
#include "segmamba/nn/archive.h"
#include "segmamba/nn/weights.h"
#include "support/error_of.h"
#include "support/temporary_folder.h"

namespace segmamba::engine {
namespace {

namespace fs = std::filesystem;
using nn::Dict;
using nn::List;
using nn::Value;
using test::error_of;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

// A copy with another value under this path of keys.
Dict with(const Dict& dict, std::vector<std::string> path, Value value) {
  Dict copy = dict;
  if (path.size() == 1) {
    copy.set(path[0], std::move(value));
  } else {
    const auto key = path[0];
    path.erase(path.begin());
    copy.set(key, with(dict.at(key).dict(), path, std::move(value)));
  }
  return copy;
}

Dict without(const Dict& dict, const std::string& key) {
  Dict copy;
  for (const auto& [name, value] : dict.items()) {
    if (name != key) copy.set(name, value);
  }
  return copy;
}

class HostileCheckpoint : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    at::set_num_threads(1);
    shared_ = new test::TemporaryFolder;
    data::write_phantoms(shared_->path() / "cases", {.cases = 3, .size = {32, 32, 32}, .seed = 3});
    train(shared_->path() / "run", tiny_config(), StartMode::kNew);
  }
  static void TearDownTestSuite() {
    delete shared_;
    shared_ = nullptr;
  }

  static TrainConfig tiny_config() {
    TrainConfig config;
    config.model.segmamba.dims = {4};
    config.model.segmamba.depths = {1};
    config.model.segmamba.hidden_size = 4;
    config.data.root = (shared_->path() / "cases").string();
    config.data.patch_size = {8, 8, 8};
    config.optimizer.name = "adamw";
    config.training.iterations = 2;
    config.training.ema_decay = 0.9;
    config.training.workers = 0;
    config.validation.every = 2;
    config.validation.max_cases = 1;
    config.validation.hd95 = false;
    return config;
  }
  static void train(const fs::path& folder, const TrainConfig& config, StartMode mode) {
    const std::atomic<bool> stop = false;
    Observer observer;
    const auto ranks = single_rank();
    Trainer(config, RunFolder::prepare(folder, mode), observer, *ranks,
            {.allow_config_change = true})
        .run(stop);
  }

  // What the run has saved, without its hash.
  static Dict sound() {
    const auto content = nn::read_archive(shared_->path() / "run/checkpoints/last.pt");
    return without(content.dict(), "hash");
  }
  static std::string text(const Dict& content) { return content.at("config").text(); }
  static Dict with_config(const std::string& yaml) { return with(sound(), {"config"}, yaml); }
  static std::string replaced(std::string yaml, const std::string& from, const std::string& to) {
    const auto place = yaml.find(from);
    EXPECT_NE(place, std::string::npos) << from;
    return yaml.replace(place, from.size(), to);
  }

  // With the hash that belongs to it, as last.pt of a run.
  fs::path write(Dict content) const {
    content.set("hash", nn::content_hash(content));
    const auto folder = folder_.path() / "run/checkpoints";
    fs::create_directories(folder);
    nn::write_archive(folder / "last.pt", content);
    return folder / "last.pt";
  }
  // What loading it complains of: one line that names the file.
  std::string refusal(const Dict& content) const {
    const auto path = write(content);
    const auto message = error_of([&] { load_checkpoint(path); });
    EXPECT_THAT(message, AllOf(HasSubstr(path.string()), Not(HasSubstr("\n"))));
    return message;
  }
  std::string resumed(const Dict& content) const {
    write(content);
    fs::copy_file(shared_->path() / "run/split.yaml", folder_.path() / "run/split.yaml",
                  fs::copy_options::overwrite_existing);
    auto config = tiny_config();
    config.training.iterations = 4;
    return error_of([&] { train(folder_.path() / "run", config, StartMode::kResume); });
  }
  std::string segmented(const Dict& content) const {
    const auto path = write(content);
    return error_of([&] { Predictor::load({path}, {.device = "cpu", .precision = "fp32"}); });
  }

  static test::TemporaryFolder* shared_;
  test::TemporaryFolder folder_;
};
test::TemporaryFolder* HostileCheckpoint::shared_ = nullptr;

TEST_F(HostileCheckpoint, ASoundOneIsTaken) {
  const auto path = write(sound());
  EXPECT_EQ(error_of([&] { load_checkpoint(path); }), "");
  EXPECT_EQ(segmented(sound()), "");
  EXPECT_EQ(resumed(sound()), "");
}

TEST_F(HostileCheckpoint, NumbersThatNoRunHas) {
  const auto huge = std::int64_t{1} << 62;
  for (const auto& path : std::vector<std::vector<std::string>>{{"iteration"},
                                                                {"validated_iteration"},
                                                                {"patch_validated_iteration"},
                                                                {"best", "since"},
                                                                {"skipped", "steps"},
                                                                {"skipped", "in_a_row"},
                                                                {"scaler", "good_steps"},
                                                                {"average", "updates"}}) {
    const auto name = join(path, ".");
    for (const auto value : {std::int64_t{-1}, -huge, huge}) {
      EXPECT_THAT(refusal(with(sound(), path, value)),
                  HasSubstr(concat("no run counts so far: ", name, " ", value)));
    }
    for (const Value& value : {Value(0.5), Value("7"), Value(), Value(List{1}), Value(Dict())}) {
      EXPECT_THAT(refusal(with(sound(), path, value)), HasSubstr("expected an integer, found"))
          << name;
    }
  }
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double infinity = std::numeric_limits<double>::infinity();
  for (const double value : {nan, infinity, -1.0}) {
    EXPECT_THAT(refusal(with(sound(), {"scaler", "scale"}, value)), HasSubstr("scaler.scale of"));
  }
  EXPECT_THAT(refusal(with(sound(), {"best", "iterations"}, List{-3})),
              HasSubstr("best.iteration"));
  EXPECT_THAT(refusal(with(sound(), {"best", "values"}, List{})), HasSubstr("disagree"));
  EXPECT_THAT(refusal(with(sound(), {"best", "values"}, List{"good"})),
              HasSubstr("expected a real number, found text"));
  EXPECT_THAT(refusal(with(sound(), {"rng", "scheme"}, "dice")), HasSubstr("drawn in another way"));
}

TEST_F(HostileCheckpoint, PartsThatAreMissingOrOfAnotherKind) {
  const auto all = sound();
  for (const auto& [key, value] : all.items()) {
    EXPECT_THAT(refusal(without(sound(), key)), HasSubstr(concat("there is no key \"", key, "\"")));
    EXPECT_THAT(refusal(with(sound(), {key}, List{})), HasSubstr(", found a list")) << key;
  }
  const auto path = write(sound());
  auto wrong = sound();
  wrong.set("hash", std::string(32, '0'));
  nn::write_archive(path, wrong);
  EXPECT_THAT(error_of([&] { load_checkpoint(path); }),
              HasSubstr("damaged: its content is not what was written"));
}

TEST_F(HostileCheckpoint, StatesOfAnotherKindOrShape) {
  const std::string bias = "out.conv.conv.bias";
  const std::map<std::string, std::vector<std::string>> places = {
      {"optimizer.exp_avg.", {"optimizer", "exp_avg." + bias}},
      {"average.weights.", {"average", "weights", bias}}};
  for (const auto& [prefix, path] : places) {
    EXPECT_THAT(refusal(with(sound(), path, torch::ones({4}, torch::kLong))),
                HasSubstr(concat(prefix, bias, " holds no floating-point numbers")));
    EXPECT_THAT(refusal(with(sound(), path, 1.5)), HasSubstr("is not a tensor"));
    EXPECT_THAT(resumed(with(sound(), path, torch::ones({5}))), HasSubstr("has shape [5]"));
    EXPECT_THAT(resumed(with(sound(), path, torch::ones({1}).expand({4, 4}))),
                HasSubstr("has shape [4, 4]"));
  }
  EXPECT_THAT(resumed(with(sound(), {"optimizer"}, Dict())), HasSubstr("optimizer state lacks"));
  for (const auto& tensor : {torch::ones({5}), torch::ones({4}, torch::kInt)}) {
    const auto content = with(sound(), {"model", bias}, tensor);
    EXPECT_THAT(resumed(content), HasSubstr("weights do not fit the model"));
    EXPECT_THAT(segmented(with(content, {"average", "weights"}, Dict())),
                HasSubstr("weights do not fit the model"));
  }
}

TEST_F(HostileCheckpoint, WeightsThatAreNotFinite) {
  const auto infinite = torch::full({4}, std::numeric_limits<float>::infinity());
  const auto content = with(sound(), {"model", "out.conv.conv.bias"}, infinite);
  // Training notices at the first step, and saves nothing of it.
  EXPECT_THAT(resumed(content), HasSubstr("out.conv.conv.bias is not finite any more"));
  EXPECT_TRUE(load_checkpoint(folder_.path() / "run/checkpoints/last.pt").training.iteration == 2);
}

// The network of a config is made only where the weights are its own.
TEST_F(HostileCheckpoint, ConfigsOfHugeNetworks) {
  const auto yaml = text(sound());
  const auto before = restart_peak_memory();
  for (const auto& [from, to, why] : std::vector<std::array<std::string, 3>>{
           {"dims: [4]", "dims: [1099511627776]", "must be an integer from 1 to 65536"},
           {"depths: [1]", "depths: [1000000000]", "must be an integer from 1 to 1024"},
           {"hidden_size: 4", "hidden_size: 0", "must be an integer from 1 to 65536"},
           {"in_channels: 4", "in_channels: 0", "must be an integer from 1 to 4096"},
           {"dims: [4]", "dims: [65536]", "weights do not fit the model"},
           {"hidden_size: 4", "hidden_size: 65536", "weights do not fit the model"},
           {"depths: [1]", "depths: [1024]", "weights do not fit the model"},
           {"dims: [4]", "dims: [4, 65536, 65536]", "need one number a stage"},
           {"name: segmamba", "name: unetr", "model.img_size"},
           {"name: segmamba", "name: none", "must be one of"},
           {"patch_size: [8, 8, 8]", "patch_size: [1000000, 8, 8]", "from 1 to 4096"},
           {"patch_size: [8, 8, 8]", "patch_size: [4096, 4096, 4096]", "take a smaller one"},
           {"patch_size: [8, 8, 8]", "patch_size: [8, 8]", "must have 3 items"},
           {"sw_batch_size: 1", "sw_batch_size: 1000000000", "from 1 to 65536"},
           {"in_channels: 4", "in_channels: 5", "weights do not fit the model"},
           {"channels: [t1n, t1c, t2w, t2f]", "channels: [t1n]", "data.channels lists 1"}}) {
    EXPECT_THAT(segmented(with_config(replaced(yaml, from, to))),
                AllOf(HasSubstr(why), Not(HasSubstr("\n"))))
        << to;
  }
  EXPECT_LT(resident_memory().peak - before, std::uint64_t{256} << 20);
}

TEST_F(HostileCheckpoint, ConfigsThatAreNone) {
  for (const auto& [yaml, why] : std::vector<std::pair<std::string, std::string>>{
           {"[1, 2]", ":1: "},
           {"model: [1", "not valid YAML"},
           {"model: {name: *a}", "not valid YAML"},
           {"a: &a [*a]\n", ""},
           {"a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n", "unknown key"},
           {std::string(2 << 20, ' '), "more than the 256 KiB that one may have"},
           {"training: {seed: 99999999999999999999}", "must be an integer"},
           {"training: {iterations: 1e30}", "must be an integer"},
           {"optimizer: {learning_rate: .nan}", "must be a number"}}) {
    EXPECT_THAT(segmented(with_config(yaml)), AllOf(HasSubstr(why), Not(HasSubstr("\n")))) << yaml;
  }
}

}  // namespace
}  // namespace segmamba::engine
