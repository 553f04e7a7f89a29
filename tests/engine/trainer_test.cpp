#include "segmamba/engine/trainer.h"

#include <gmock/gmock.h>
#include <sys/wait.h>
#include <torch/torch.h>
#include <unistd.h>

#include <csignal>
#include <fstream>

#include "segmamba/core/error.h"
#include "segmamba/core/files.h"
#include "segmamba/core/random.h"
#include "segmamba/core/text.h"
#include "segmamba/data/phantom.h"
#include "segmamba/engine/checkpoint.h"
#include "segmamba/engine/observers.h"
#include "support/temporary_folder.h"

namespace segmamba::engine {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

// Raises the stop flag after a step.
class StopAfter final : public Observer {
 public:
  StopAfter(std::int64_t iteration, std::atomic<bool>& stop) : iteration_(iteration), stop_(stop) {}
  void on_step(const StepDone& event) override {
    losses.push_back(event.loss);
    if (event.iteration == iteration_) stop_ = true;
  }
  void on_validation(const ValidationDone& event) override { validations.push_back(event); }
  std::vector<double> losses;
  std::vector<ValidationDone> validations;

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
    config.model.dims = {4, 8, 8, 8};
    config.model.depths = {1, 1, 1, 1};
    config.model.hidden_size = 16;
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
  };
  // Trains until the end or until `stop_after` steps of the run are done.
  static Run train(const TrainConfig& config, const fs::path& folder, StartMode mode,
                   std::int64_t stop_after = -1) {
    std::atomic<bool> stop = false;
    StopAfter observer(stop_after, stop);
    CsvObserver table(RunFolder{folder}.metrics());
    Observers observers;
    observers.add(observer);
    observers.add(table);
    Trainer trainer(config, RunFolder::prepare(folder, mode), observers, "cpu");
    const auto end = trainer.run(stop);
    return {end, observer.losses, observer.validations};
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

// metrics.csv without the column of seconds.
std::vector<std::string> rows(const fs::path& folder) {
  std::ifstream file(RunFolder{folder}.metrics());
  std::vector<std::string> rows;
  for (std::string line; std::getline(file, line);) {
    auto cells = split(line, ',');
    EXPECT_EQ(cells.size(), 9U) << line;
    cells[4].clear();
    rows.push_back(join(cells, ","));
  }
  return rows;
}

TEST_F(TrainerTest, InterruptedRunEndsWithTheSameBits) {
  for (const char* optimizer : {"sgd", "adamw"}) {
    auto config = tiny_config();
    config.optimizer.name = optimizer;
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
    for (const char* name : {"last.pt", "best.pt"}) {
      const auto a = load_checkpoint(whole / "checkpoints" / name);
      const auto b = load_checkpoint(parts / "checkpoints" / name);
      EXPECT_EQ(a.training.iteration, b.training.iteration);
      EXPECT_EQ(a.training.best_dice, b.training.best_dice);
      EXPECT_EQ(a.training.best_iteration, b.training.best_iteration);
      expect_equal(a.model, b.model);
      expect_equal(a.training.optimizer, b.training.optimizer);
    }
  }
}

TEST_F(TrainerTest, KeepsTheBestModel) {
  const auto run = train(tiny_config(), out_.path() / "run", StartMode::kNew);
  ASSERT_EQ(run.validations.size(), 3U);  // after 4, 8 and 10 steps
  EXPECT_EQ(run.validations[2].iteration, 10);
  const auto best =
      std::max_element(run.validations.begin(), run.validations.end(),
                       [](const auto& a, const auto& b) { return a.dice.mean() < b.dice.mean(); });
  const auto checkpoint = load_checkpoint(out_.path() / "run/checkpoints/best.pt");
  EXPECT_EQ(checkpoint.training.iteration, best->iteration);
  EXPECT_EQ(checkpoint.training.best_dice, best->dice.mean());
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

TEST_F(TrainerTest, NonFiniteLossNamesTheIterationAndKeepsTheCheckpoint) {
  auto config = tiny_config();
  config.optimizer.learning_rate = 1e30;
  config.training.gradient_clip_norm = 0;
  config.training.checkpoint_every = 1;
  config.validation.every = 0;
  EXPECT_THAT([&] { train(config, out_.path() / "run", StartMode::kNew); },
              ThrowsMessage<Error>(::testing::MatchesRegex(
                  "iteration [0-9]+: the loss is -?[a-z]+ and the gradient norm .*")));
  EXPECT_GE(load_checkpoint(out_.path() / "run/checkpoints/last.pt").training.iteration, 1);
}

TEST_F(TrainerTest, RefusesPatchesThatTheModelCannotTake) {
  auto config = tiny_config();
  config.data.patch_size = {16, 20, 16};
  EXPECT_THAT([&] { train(config, out_.path() / "run", StartMode::kNew); },
              ThrowsMessage<Error>(
                  "data.patch_size is [16, 20, 16]: each size must be a multiple of 16 for this "
                  "model"));
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
    EXPECT_THAT([&] { load_checkpoint(path); }, ThrowsMessage<Error>(HasSubstr(path.string())));
  }
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
