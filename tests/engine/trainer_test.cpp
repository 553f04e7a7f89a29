#include "segmamba/engine/trainer.h"

#include <gmock/gmock.h>
#include <sys/wait.h>
#include <torch/torch.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <fstream>

#include "segmamba/core/config.h"
#include "segmamba/core/error.h"
#include "segmamba/core/files.h"
#include "segmamba/core/random.h"
#include "segmamba/core/text.h"
#include "segmamba/data/phantom.h"
#include "segmamba/data/split.h"
#include "segmamba/engine/checkpoint.h"
#include "segmamba/engine/observers.h"
#include "segmamba/engine/predictor.h"
#include "segmamba/engine/validation.h"
#include "segmamba/nn/state_dict.h"
#include "segmamba/nn/weights.h"
#include "support/temporary_folder.h"

namespace segmamba::engine {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

// Raises the stop flag after a step.
class StopAfter final : public Observer {
 public:
  StopAfter(std::int64_t iteration, std::atomic<bool>& stop) : iteration_(iteration), stop_(stop) {}
  void on_step(const StepDone& event) override {
    losses.push_back(event.loss);
    if (event.skipped) {
      EXPECT_THAT(event.culprit, HasSubstr("the result of "));
    }
    if (event.iteration == iteration_) stop_ = true;
  }
  void on_validation(const ValidationDone& event) override { validations.push_back(event); }
  void on_notice(const std::string& message) override { notices.push_back(message); }
  std::vector<double> losses;
  std::vector<ValidationDone> validations;
  std::vector<std::string> notices;

 private:
  std::int64_t iteration_;
  std::atomic<bool>& stop_;
};

class TrainerTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    at::set_num_threads(1);  // models this small only lose by more
    data_ = new test::TemporaryFolder;
    data::write_phantoms(data_->path(), {.cases = 5, .size = {32, 32, 32}, .seed = 3});
  }
  static void TearDownTestSuite() {
    delete data_;
    data_ = nullptr;
  }

  static TrainConfig tiny_config() {
    TrainConfig config;
    config.model.segmamba.dims = {4, 8, 8};
    config.model.segmamba.depths = {1, 1, 1};
    config.model.segmamba.hidden_size = 16;
    config.data.root = data_->path().string();
    config.data.patch_size = {16, 16, 16};
    config.loss.name = "dice_cross_entropy";
    config.training.iterations = 10;
    config.training.checkpoint_every = 3;
    config.training.workers = 1;
    config.validation.every = 4;
    return config;
  }

  struct Run {
    RunEnd end;
    std::vector<double> losses;
    std::vector<ValidationDone> validations;
    std::vector<std::string> notices;
  };
  // Trains until the end or until `stop_after` steps of the run are done.
  static Run train(const TrainConfig& config, const fs::path& folder, StartMode mode,
                   std::int64_t stop_after = -1, bool allow_config_change = false) {
    std::atomic<bool> stop = false;
    StopAfter observer(stop_after, stop);
    const auto ranks = single_rank();
    CsvObserver table(RunFolder{folder}.metrics());
    Observers observers;
    observers.add(observer);
    observers.add(table);
    Trainer trainer(config, RunFolder::prepare(folder, mode), observers, *ranks,
                    {.allow_config_change = allow_config_change});
    const auto end = trainer.run(stop);
    return {end, observer.losses, observer.validations, observer.notices};
  }

  static std::vector<std::string> case_names() {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(data_->path())) {
      names.push_back(entry.path().filename().string());
    }
    std::sort(names.begin(), names.end());
    return names;
  }
  // The path of a split of two cases to train on and three to validate on.
  std::string split_with_three_to_validate() const {
    const auto path = out_.path() / "split.yaml";
    const auto names = case_names();
    data::write_split(path, {{names[0], names[1]}, {names[2], names[3], names[4]}, {}},
                      "this test");
    return path.string();
  }

  static void expect_equal(const std::map<std::string, torch::Tensor>& a,
                           const std::map<std::string, torch::Tensor>& b) {
    ASSERT_EQ(a.size(), b.size());
    for (const auto& [name, tensor] : a) {
      ASSERT_TRUE(b.count(name)) << name;
      EXPECT_TRUE(torch::equal(tensor, b.at(name))) << name;
    }
  }

  static test::TemporaryFolder* data_;
  test::TemporaryFolder out_;
};
test::TemporaryFolder* TrainerTest::data_ = nullptr;

// metrics.csv without the columns of seconds.
std::vector<std::string> rows(const fs::path& folder) {
  std::ifstream file(RunFolder{folder}.metrics());
  std::vector<std::string> rows;
  for (std::string line; std::getline(file, line);) {
    auto cells = split(line, ',');
    EXPECT_EQ(cells.size(), 20U) << line;
    cells.at(4).clear();
    cells.at(5).clear();
    rows.push_back(join(cells, ","));
  }
  return rows;
}

TEST_F(TrainerTest, StartsFromTheWeightsOfAnotherRun) {
  auto config = tiny_config();
  config.training.iterations = 2;
  config.validation.every = 0;
  const auto first = out_.path() / "first", second = out_.path() / "second";
  train(config, first, StartMode::kNew);
  const auto trained = nn::read_weights(RunFolder{first}.last_checkpoint());

  const auto weights = out_.path() / "start.safetensors";
  nn::write_safetensors(weights, {.tensors = trained, .metadata = {}});
  config.model.init_from = weights.string();
  config.model.freeze = {"vit.*"};
  config.training.seed = 9;
  config.optimizer.learning_rate = 0;
  const auto run = train(config, second, StartMode::kNew, 1);
  EXPECT_THAT(run.notices, Contains(HasSubstr("model.init_from: ")));
  expect_equal(nn::read_weights(RunFolder{second}.last_checkpoint()), trained);
  // Going on needs the file no more.
  fs::remove(weights);
  config.optimizer.learning_rate = 0.01;
  train(config, second, StartMode::kResume, -1, /*allow_config_change=*/true);
  for (const auto& [name, tensor] : nn::read_weights(RunFolder{second}.last_checkpoint())) {
    EXPECT_EQ(torch::equal(tensor, trained.at(name)), starts_with(name, "vit.")) << name;
  }
}

TEST_F(TrainerTest, NetworksOfOneInputSizeTakeThatOfThePatches) {
  auto config = tiny_config();
  config.model.name = "unetr";
  config.model.unetr.feature_size = 2;
  config.model.unetr.hidden_size = 12;
  config.model.unetr.mlp_dim = 12;
  config.model.unetr.num_heads = 2;
  config.data.patch_size = {16, 16, 32};
  config.training.iterations = 1;
  config.validation.max_cases = 1;
  config.validation.every = 1;
  const auto run = train(config, out_.path() / "run", StartMode::kNew);
  EXPECT_EQ(run.end, RunEnd::kComplete);
  EXPECT_EQ(run.validations.size(), 1U);
  const auto saved = load_config<TrainConfig>(RunFolder{out_.path() / "run"}.config(), {});
  EXPECT_EQ(saved.model.unetr.img_size, (std::vector<std::int64_t>{16, 16, 32}));
  config.model.unetr.img_size = {32, 32, 32};
  EXPECT_THAT([&] { train(config, out_.path() / "other", StartMode::kNew); },
              ThrowsMessage<Error>(AllOf(HasSubstr("data.patch_size is [16, 16, 32]"),
                                         HasSubstr("model.img_size"))));
}

TEST_F(TrainerTest, InterruptedRunEndsWithTheSameBits) {
  for (const char* optimizer : {"sgd", "adamw"}) {
    auto config = tiny_config();
    config.optimizer.name = optimizer;
    config.validation.patches_every = 3;
    config.validation.patches = 3;
    if (optimizer == std::string("adamw")) {
      config.training.precision = "fp16";
      config.training.ema_decay = 0.9;
      config.training.micro_batch_size = 1;
      config.schedule.name = "cosine";
    }
    const auto whole = out_.path() / (std::string(optimizer) + " whole");
    const auto parts = out_.path() / (std::string(optimizer) + " parts");
    const auto undisturbed = train(config, whole, StartMode::kNew);
    EXPECT_EQ(undisturbed.end, RunEnd::kComplete);

    const auto first = train(config, parts, StartMode::kNew, 4);
    EXPECT_EQ(first.end, RunEnd::kInterrupted);
    config.training.workers = 0;
    const auto second = train(config, parts, StartMode::kResume, 7);
    EXPECT_EQ(second.end, RunEnd::kInterrupted);
    const auto third = train(config, parts, StartMode::kResume);
    EXPECT_EQ(third.end, RunEnd::kComplete);

    auto losses = first.losses;
    losses.insert(losses.end(), second.losses.begin(), second.losses.end());
    losses.insert(losses.end(), third.losses.begin(), third.losses.end());
    EXPECT_EQ(losses, undisturbed.losses);
    EXPECT_EQ(rows(parts), rows(whole));
    for (const char* name : {"last.pt", "best.pt", "best.safetensors"}) {
      if (std::string(name) == "best.safetensors") {
        EXPECT_EQ(read_file(whole / "checkpoints" / name), read_file(parts / "checkpoints" / name));
        continue;
      }
      const auto a = load_checkpoint(whole / "checkpoints" / name);
      const auto b = load_checkpoint(parts / "checkpoints" / name);
      EXPECT_EQ(a.training.iteration, b.training.iteration);
      ASSERT_EQ(a.training.best.size(), 1U);
      EXPECT_EQ(a.training.validated_iteration, b.training.validated_iteration);
      EXPECT_EQ(a.training.patch_validated_iteration, b.training.patch_validated_iteration);
      EXPECT_EQ(a.training.best[0].value, b.training.best[0].value);
      EXPECT_EQ(a.training.best[0].iteration, b.training.best[0].iteration);
      expect_equal(a.model, b.model);
      expect_equal(a.training.step.optimizer, b.training.step.optimizer);
      expect_equal(a.training.step.average, b.training.step.average);
      EXPECT_EQ(a.training.step.average_updates, b.training.step.average_updates);
      EXPECT_EQ(a.training.step.scaler.scale, b.training.step.scaler.scale);
      EXPECT_EQ(a.training.step.scaler.good_steps, b.training.step.scaler.good_steps);
    }
  }
}

TEST_F(TrainerTest, KeepsTheBestModel) {
  const auto run = train(tiny_config(), out_.path() / "run", StartMode::kNew);
  ASSERT_EQ(run.validations.size(), 3U);  // after 4, 8 and 10 steps
  EXPECT_EQ(run.validations[2].iteration, 10);
  const auto best = std::max_element(
      run.validations.begin(), run.validations.end(),
      [](const auto& a, const auto& b) { return a.mean.mean_dice() < b.mean.mean_dice(); });
  const auto checkpoint = load_checkpoint(out_.path() / "run/checkpoints/best.pt");
  EXPECT_EQ(checkpoint.training.iteration, best->iteration);
  EXPECT_EQ(checkpoint.training.best[0].value, best->mean.mean_dice());
  EXPECT_EQ(load_checkpoint(out_.path() / "run/checkpoints/last.pt").training.iteration, 10);
}

TEST_F(TrainerTest, FinishedRunIsLeftAsItIs) {
  auto config = tiny_config();
  config.training.iterations = 2;
  train(config, out_.path() / "run", StartMode::kNew);
  const auto before = load_checkpoint(out_.path() / "run/checkpoints/last.pt");
  const auto again = train(config, out_.path() / "run", StartMode::kResume);
  EXPECT_EQ(again.end, RunEnd::kComplete);
  EXPECT_TRUE(again.losses.empty());
  expect_equal(before.model, load_checkpoint(out_.path() / "run/checkpoints/last.pt").model);
}

TEST_F(TrainerTest, ResumeRefusesAnotherRecipe) {
  auto config = tiny_config();
  train(config, out_.path() / "run", StartMode::kNew, 2);
  config.training.batch_size = 3;
  EXPECT_THAT([&] { train(config, out_.path() / "run", StartMode::kResume); },
              ThrowsMessage<Error>(HasSubstr("training.batch_size is 3, was 2")));
}

TEST_F(TrainerTest, AnotherRecipeIsTakenWhereAllowed) {
  auto config = tiny_config();
  train(config, out_.path() / "run", StartMode::kNew, 2);
  config.training.batch_size = 3;
  config.optimizer.name = "adamw";
  config.training.ema_decay = 0.9;
  config.training.iterations = 4;
  const auto run = train(config, out_.path() / "run", StartMode::kResume, -1, true);
  EXPECT_EQ(run.end, RunEnd::kComplete);
  EXPECT_EQ(run.losses.size(), 2U);
  EXPECT_THAT(run.notices,
              Contains("config changed after iteration 2: training.batch_size is 3, was 2"));
  const auto last = load_checkpoint(out_.path() / "run/checkpoints/last.pt");
  EXPECT_EQ(last.training.step.optimizer.at("step.out.conv.conv.bias").item<float>(), 2);
  EXPECT_EQ(last.training.step.average_updates, 2);
}

TEST_F(TrainerTest, StepsThatAreNotFiniteAreSkippedUntilThereAreTooMany) {
  auto config = tiny_config();
  config.optimizer.learning_rate = 1e30;
  config.training.gradient_clip_norm = 0;
  config.training.checkpoint_every = 1;
  config.training.max_skipped_steps = 3;
  config.validation.every = 0;
  EXPECT_THAT([&] { train(config, out_.path() / "run", StartMode::kNew); },
              ThrowsMessage<Error>(::testing::MatchesRegex(
                  "iteration [0-9]+: the loss is -?[a-z]+ and the gradient norm .*not finite "
                  "first: the result of .*It is step 4 in a row.*")));
  const auto last = load_checkpoint(out_.path() / "run/checkpoints/last.pt");
  EXPECT_GE(last.training.iteration, 1);
  EXPECT_EQ(last.training.skipped_steps, 0);

  // With more patience the same run ends with the skipped steps counted.
  config.training.max_skipped_steps = 20;
  const auto run = train(config, out_.path() / "other", StartMode::kNew);
  EXPECT_EQ(run.end, RunEnd::kComplete);
  const auto skipped = load_checkpoint(out_.path() / "other/checkpoints/last.pt").training;
  EXPECT_EQ(skipped.skipped_steps, 10 - last.training.iteration);
  EXPECT_EQ(skipped.iteration, 10);
}

TEST_F(TrainerTest, KeepsSeveralOfTheBest) {
  auto config = tiny_config();
  config.validation.every = 2;
  config.validation.keep_best = 2;
  config.validation.best_metric = "dice_wt";
  const auto run = train(config, out_.path() / "run", StartMode::kNew);
  ASSERT_EQ(run.validations.size(), 5U);
  auto order = run.validations;
  std::stable_sort(order.begin(), order.end(),
                   [](const auto& a, const auto& b) { return a.mean.dice[0] > b.mean.dice[0]; });
  std::vector<std::string> names,
      expected = {"best.pt", "best.safetensors", "last.pt", "previous.pt"};
  for (int i = 0; i < 2; ++i) expected.push_back(concat("best-", order[i].iteration, ".pt"));
  for (const auto& entry : fs::directory_iterator(out_.path() / "run/checkpoints")) {
    names.push_back(entry.path().filename().string());
  }
  EXPECT_THAT(names, ::testing::UnorderedElementsAreArray(expected));
  const auto folder = RunFolder{out_.path() / "run"};
  const auto best = load_checkpoint(folder.best_checkpoint());
  EXPECT_EQ(best.training.iteration, order[0].iteration);
  expect_equal(best.model, load_checkpoint(folder.best_checkpoint(order[0].iteration)).model);
  const auto last = load_checkpoint(folder.last_checkpoint()).training;
  ASSERT_EQ(last.best.size(), 2U);
  EXPECT_EQ(last.best[1].value, order[1].mean.dice[0]);
}

TEST_F(TrainerTest, BestWeightsAreTheAverageAsSafetensors) {
  auto config = tiny_config();
  config.training.ema_decay = 0.99;
  train(config, out_.path() / "run", StartMode::kNew);
  const auto folder = RunFolder{out_.path() / "run"};
  const auto best = load_checkpoint(folder.best_checkpoint());
  const auto weights = nn::read_safetensors(folder.best_weights()).tensors;
  expect_equal(weights, best.weights());
  EXPECT_FALSE(
      torch::equal(weights.at("out.conv.conv.weight"), best.model.at("out.conv.conv.weight")));
  const auto model = checkpoint_model(best, "best.pt");
  expect_equal(nn::state_dict(*model), weights);
}

// The scores that validation tells are those of the averaged weights, in 16 bits where training is.
TEST_F(TrainerTest, ValidatesTheAverageOfTheWeights) {
  auto config = tiny_config();
  config.training.ema_decay = 0.9;
  config.training.precision = "bf16";
  const auto run = train(config, out_.path() / "run", StartMode::kNew);
  const auto best = load_checkpoint(RunFolder{out_.path() / "run"}.best_checkpoint());
  const auto told =
      std::find_if(run.validations.begin(), run.validations.end(),
                   [&](const auto& event) { return event.iteration == best.training.iteration; });
  ASSERT_NE(told, run.validations.end());

  const auto dataset = data::find_dataset(config.data, data::Labels::kRequired);
  auto with = config;
  with.inference.overlap = config.validation.overlap;
  with.inference.mirror_axes.clear();
  const auto dice_of = [&](const std::map<std::string, torch::Tensor>& weights,
                           const std::string& precision) {
    const auto model = nn::make_model(config.model);
    nn::load_state_dict(*model, weights);
    const Predictor predictor({model}, with, {.device = "cpu", .precision = precision});
    const auto found =
        std::find_if(dataset.cases.begin(), dataset.cases.end(),
                     [&](const data::Case& item) { return item.name == told->cases[0].name; });
    const auto item = data::prepare_case(data::read_case(dataset, *found), config.preprocess);
    return score_regions(predictor.segment_prepared(item), item.labels,
                         {{item.size[2], item.size[1], item.size[0]}},
                         validation_regions(config.data), false)
        .dice;
  };
  EXPECT_EQ(dice_of(best.weights(), "bf16"), told->cases[0].scores.dice);
  EXPECT_NE(dice_of(best.model, "bf16"), told->cases[0].scores.dice);
  EXPECT_NE(dice_of(best.weights(), "fp32"), told->cases[0].scores.dice);
}

// A validation that is interrupted is done again, and the run ends with the same bits.
TEST_F(TrainerTest, StopWithinAValidation) {
  auto config = tiny_config();
  config.data.split = split_with_three_to_validate();
  const auto whole = train(config, out_.path() / "whole", StartMode::kNew);
  struct StopInValidation final : Observer {
    void on_validation_case(std::int64_t done, std::int64_t) override { stop = done == 1; }
    void on_validation(const ValidationDone&) override { ADD_FAILURE(); }
    std::atomic<bool> stop = false;
  } observer;
  const auto ranks = single_rank();
  {
    Trainer trainer(config, RunFolder::prepare(out_.path() / "run", StartMode::kNew), observer,
                    *ranks);
    EXPECT_EQ(trainer.run(observer.stop), RunEnd::kInterrupted);
  }
  const auto rest = train(config, out_.path() / "run", StartMode::kResume);
  ASSERT_EQ(rest.validations.size(), whole.validations.size());
  EXPECT_EQ(rest.validations[0].iteration, 4);
  EXPECT_EQ(rest.validations[0].mean.dice, whole.validations[0].mean.dice);
  expect_equal(load_checkpoint(RunFolder{out_.path() / "run"}.last_checkpoint()).model,
               load_checkpoint(RunFolder{out_.path() / "whole"}.last_checkpoint()).model);
}

// Another precision begins with its own loss scale.
TEST_F(TrainerTest, LossScaleOfAnotherPrecisionStartsAnew) {
  auto config = tiny_config();
  config.training.iterations = 2;
  config.validation.every = 0;
  train(config, out_.path() / "run", StartMode::kNew);
  config.training.precision = "fp16";
  config.training.iterations = 3;
  train(config, out_.path() / "run", StartMode::kResume, -1, true);
  const auto last = load_checkpoint(RunFolder{out_.path() / "run"}.last_checkpoint());
  EXPECT_GE(last.training.step.scaler.scale, 32768);
}

TEST_F(TrainerTest, FewerIterationsThanAreDoneAreRefused) {
  auto config = tiny_config();
  train(config, out_.path() / "run", StartMode::kNew, 5);
  config.training.iterations = 3;
  EXPECT_THAT([&] { train(config, out_.path() / "run", StartMode::kResume, -1, true); },
              ThrowsMessage<Error>(HasSubstr("5 iterations are done, which is more than the 3")));
}

TEST_F(TrainerTest, EndsEarlyWithoutABetterValidation) {
  auto config = tiny_config();
  config.optimizer.learning_rate = 0;  // no validation is better than the first
  config.training.early_stop = 2;
  config.validation.every = 1;
  const auto run = train(config, out_.path() / "run", StartMode::kNew);
  EXPECT_EQ(run.end, RunEnd::kComplete);
  EXPECT_EQ(run.losses.size(), 3U);
  EXPECT_THAT(run.notices, Contains(HasSubstr("ended early: 2 validations without a better")));
  const auto again = train(config, out_.path() / "run", StartMode::kResume);
  EXPECT_EQ(again.end, RunEnd::kComplete);
  EXPECT_TRUE(again.losses.empty());
}

TEST_F(TrainerTest, ValidationTellsCasesAndPictures) {
  auto config = tiny_config();
  config.data.split = split_with_three_to_validate();
  config.training.iterations = 1;
  config.validation.every = 1;
  const auto run = train(config, out_.path() / "run", StartMode::kNew);
  ASSERT_EQ(run.validations.size(), 1U);
  const auto& validation = run.validations[0];
  ASSERT_EQ(validation.cases.size(), 3U);
  double wt = 0;
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(validation.cases[i].name, case_names()[i + 2]);
    EXPECT_EQ(validation.cases[i].scores.hd95.size(), 3U);
    wt += validation.cases[i].scores.dice[0];
  }
  EXPECT_DOUBLE_EQ(validation.mean.dice[0], wt / 3);
  ASSERT_EQ(validation.pictures.size(), 3U);
  EXPECT_GE(validation.pictures[0].dice, validation.pictures[1].dice);
  EXPECT_GE(validation.pictures[1].dice, validation.pictures[2].dice);
  for (const auto& picture : validation.pictures) EXPECT_EQ(picture.png.substr(1, 3), "PNG");
}

TEST_F(TrainerTest, ValidationShowsNoCaseTwice) {
  auto config = tiny_config();
  config.training.iterations = 1;
  config.validation.every = 1;
  const auto run = train(config, out_.path() / "run", StartMode::kNew);
  ASSERT_EQ(run.validations.size(), 1U);
  const auto& validation = run.validations[0];
  ASSERT_LT(validation.cases.size(), 3U);
  EXPECT_EQ(validation.pictures.size(), validation.cases.size());
}

TEST_F(TrainerTest, UnknownMetricIsRefused) {
  auto config = tiny_config();
  config.validation.hd95 = false;
  config.validation.best_metric = "hd95_mean";
  EXPECT_THAT([&] { train(config, out_.path() / "run", StartMode::kNew); },
              ThrowsMessage<Error>("validation.best_metric: there is no hd95_mean; choose one of "
                                   "dice_mean, dice_wt, dice_tc, dice_et"));
}

TEST_F(TrainerTest, ResumesPastDamagedCheckpoints) {
  const auto config = tiny_config();
  const auto whole = train(config, out_.path() / "whole", StartMode::kNew);
  const auto run = RunFolder{out_.path() / "run"};
  train(config, run.path, StartMode::kNew, 8);  // previous.pt is of iteration 6
  // One bit of some tensor.
  const auto tensor = load_checkpoint(run.last_checkpoint()).model.begin()->second.contiguous();
  const std::string bytes(static_cast<const char*>(tensor.const_data_ptr()), tensor.nbytes());
  auto content = read_file(run.last_checkpoint());
  content[content.find(bytes)] ^= 1;
  write_file_atomically(run.last_checkpoint(), content);
  const auto rest = train(config, run.path, StartMode::kResume);
  EXPECT_THAT(rest.notices,
              ElementsAre(HasSubstr("last.pt is no whole checkpoint of segmamba-train: damaged"),
                          "going on from previous.pt of iteration 6"));
  EXPECT_EQ(rest.losses, std::vector<double>(whole.losses.begin() + 6, whole.losses.end()));
  EXPECT_TRUE(fs::exists(run.last_checkpoint().string() + ".damaged"));
  expect_equal(load_checkpoint(run.last_checkpoint()).model,
               load_checkpoint(RunFolder{out_.path() / "whole"}.last_checkpoint()).model);
  EXPECT_EQ(rows(run.path), rows(out_.path() / "whole"));

  for (const auto& path : run.all_checkpoints()) write_file_atomically(path, "damaged");
  EXPECT_THAT([&] { train(config, run.path, StartMode::kResume); },
              ThrowsMessage<Error>(AllOf(HasSubstr("no checkpoint is whole"),
                                         HasSubstr("--overwrite starts anew"))));
}

// Killed within the first validation: best.pt is there, and nothing else of what it would have
// left.
TEST_F(TrainerTest, AValidationThatWasKilledIsDoneAgain) {
  auto config = tiny_config();
  config.validation.keep_best = 3;
  config.training.checkpoint_every = 100;
  const RunFolder whole{out_.path() / "whole"};
  train(config, whole.path, StartMode::kNew);
  const auto run = RunFolder::prepare(out_.path() / "killed", StartMode::kNew);
  fs::copy_file(whole.split(), run.split());
  fs::copy_file(whole.best_checkpoint(4), run.best_checkpoint());
  std::string table;
  for (const auto& line : split(read_file(whole.metrics()), '\n')) {
    table += line + "\n";
    if (starts_with(line, "4,")) break;  // its step; the next row is the validation's
  }
  write_file_atomically(run.metrics(), table);

  train(config, run.path, StartMode::kResume);
  EXPECT_EQ(rows(run.path), rows(whole.path));
  for (const auto& entry : fs::directory_iterator(whole.checkpoints())) {
    const auto name = entry.path().filename();
    EXPECT_EQ(read_file(run.checkpoints() / name), read_file(entry.path())) << name;
  }
}

TEST_F(TrainerTest, RefusesPatchesThatTheModelCannotTake) {
  auto config = tiny_config();
  config.data.patch_size = {16, 20, 16};
  EXPECT_THAT(
      [&] { train(config, out_.path() / "run", StartMode::kNew); },
      ThrowsMessage<Error>("data.patch_size is [16, 20, 16]: each size must be a multiple of 8"));
}

TEST(Checkpoint, DamagedFilesAreRefused) {
  const test::TemporaryFolder folder;
  Checkpoint checkpoint;
  checkpoint.model["weight"] = torch::arange(1000, torch::kFloat);
  checkpoint.config = "training:\n  seed: 7\n";
  const auto path = folder.path() / "last.pt";
  save_checkpoint(path, checkpoint);
  EXPECT_EQ(checkpoint_config(load_checkpoint(path), path).training.seed, 7);
  const auto content = read_file(path);
  for (const std::size_t size :
       {std::size_t{0}, std::size_t{10}, content.size() / 2, content.size() - 1}) {
    write_file_atomically(path, content.substr(0, size));
    EXPECT_THAT([&] { load_checkpoint(path); },
                ThrowsMessage<DamagedCheckpoint>(HasSubstr(path.string())));
  }
}

TEST(Checkpoint, WhatCannotBeReadIsNotDamaged) {
  const test::TemporaryFolder folder;
  const auto path = folder.path() / "last.pt";
  EXPECT_THAT([&] { load_checkpoint(path); },
              ThrowsMessage<ReadError>(
                  concat("cannot read ", path.string(), ": No such file or directory")));
}

// Children that write checkpoints without end are killed at random moments; what they leave must
// be one whole checkpoint: every tensor of the iteration that the file says.
TEST(Checkpoint, SurvivesAKillAtAnyMoment) {
  const test::TemporaryFolder folder;
  const auto path = folder.path() / "last.pt";
  const auto checkpoint_of = [](std::int64_t iteration) {
    Checkpoint checkpoint;
    checkpoint.training.iteration = iteration;
    for (const char* name : {"a", "b", "c"}) {
      checkpoint.model[name] = torch::full({30000}, static_cast<double>(iteration));
    }
    return checkpoint;
  };
  save_checkpoint(path, checkpoint_of(0));
  Random random(1);
  std::int64_t last = 0;
  for (int round = 0; round < 12; ++round) {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      for (std::int64_t i = last + 1;; ++i) save_checkpoint(path, checkpoint_of(i));
    }
    usleep(static_cast<useconds_t>(20000 + random.integer(60000)));
    kill(child, SIGKILL);
    int status = 0;
    waitpid(child, &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status));
    const auto checkpoint = load_checkpoint(path);
    EXPECT_GE(checkpoint.training.iteration, last);
    last = checkpoint.training.iteration;
    for (const auto& [name, tensor] : checkpoint.model) {
      EXPECT_TRUE((tensor == static_cast<double>(last)).all().item<bool>()) << name;
    }
  }
  EXPECT_GT(last, 0);
  remove_stale_temporaries(folder.path());
  EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), fs::directory_iterator()), 1);
}

}  // namespace
}  // namespace segmamba::engine
