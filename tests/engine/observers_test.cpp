#include "segmamba/engine/observers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <regex>

#include "run_events.h"
#include "segmamba/core/csv.h"
#include "segmamba/core/files.h"
#include "segmamba/core/log.h"
#include "segmamba/core/text.h"
#include "segmamba/engine/events_observer.h"
#include "segmamba/engine/tensorboard_observer.h"
#include "support/error_of.h"
#include "support/temporary_folder.h"

namespace segmamba::engine {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<std::string> lines_of(const fs::path& path) {
  auto lines = split(read_file(path), '\n');
  EXPECT_EQ(lines.back(), "");
  lines.pop_back();
  return lines;
}

constexpr const char* kHeader =
    "iteration,learning_rate,loss,gradient_norm,seconds,data_seconds,loss_scale,skipped,"
    "patch_dice_wt,patch_dice_et,patch_dice_mean,dice_wt,dice_et,dice_mean,"
    "hd95_wt,hd95_et,hd95_mean";

class CsvObserverTest : public ::testing::Test {
 protected:
  test::TemporaryFolder folder_;
  fs::path path_ = folder_.path() / "metrics.csv";
};

TEST_F(CsvObserverTest, WritesARowForEachStepAndValidation) {
  CsvObserver table(path_);
  table.on_start(test_run::started());
  table.on_step(test_run::step(1));
  table.on_step(test_run::skipped_step(2));
  table.on_patch_validation(test_run::patch_validation(2));
  table.on_validation(test_run::validation(2, 0.75, true));
  auto without_hd95 = test_run::validation(4, 1, true);
  without_hd95.mean.hd95.clear();
  table.on_validation(without_hd95);
  // Still open: every row is in the file at once.
  EXPECT_THAT(lines_of(path_), ElementsAre(kHeader,                                      //
                                           "1,0.25,1,2,0.5000,0.1250,1,0,,,,,,,,,",      //
                                           "2,0.25,,inf,0.5000,0.1250,1024,1,,,,,,,,,",  //
                                           "2,,,,,,,,0.5,0.25,0.375,,,,,,",              //
                                           "2,,,,,,,,,,,0.75,0.25,0.5,6,,6",             //
                                           "4,,,,,,,,,,,1,0.25,0.625,,,"));
  EXPECT_EQ(read_csv(path_).rows.size(), 5U);
}

TEST_F(CsvObserverTest, ResumedRunEndsWithTheRowsOfAnUndisturbedOne) {
  const auto run = [](CsvObserver& table, std::int64_t first, std::int64_t last) {
    table.on_start(test_run::started(first));
    for (auto iteration = first; iteration <= last; ++iteration) {
      if (iteration > first) table.on_step(test_run::step(iteration));
      // A run that was killed between a checkpoint and its validation validates again.
      if (iteration % 2 == 0 && iteration > 0) {
        table.on_patch_validation(test_run::patch_validation(iteration));
      }
      if (iteration % 4 == 0 && iteration > 0) {
        table.on_validation(test_run::validation(iteration, 0.5, false));
      }
    }
  };
  const auto whole = folder_.path() / "whole.csv";
  {
    CsvObserver table(whole);
    run(table, 0, 10);
  }
  {
    CsvObserver table(path_);
    run(table, 0, 7);
  }
  AppendFile(path_).write("8,0.25,0.1");  // killed
  {
    CsvObserver table(path_);
    run(table, 4, 9);
  }
  AppendFile(path_).write(std::string(5, '\0') + "\n");  // lost its power
  CsvObserver table(path_);
  run(table, 8, 10);
  EXPECT_EQ(read_file(path_), read_file(whole));
}

TEST_F(CsvObserverTest, RefusesToGoOnWithOtherColumns) {
  write_file_atomically(path_, "iteration,loss\n1,0.5\n");
  CsvObserver table(path_);
  EXPECT_EQ(test::error_of([&] { table.on_start(test_run::started(1)); }),
            concat(path_.string(), ":1: has other columns than this run writes (", kHeader,
                   "): move the file away, and the run goes on with a new one"));
  EXPECT_EQ(read_file(path_), "iteration,loss\n1,0.5\n");
  fs::remove(path_);
  table.on_start(test_run::started(1));
  EXPECT_THAT(lines_of(path_), ElementsAre(kHeader));
}

std::vector<Json> events_of(const fs::path& path) {
  std::vector<Json> events;
  for (const auto& line : lines_of(path)) events.push_back(parse_json(line, path.string()));
  return events;
}

TEST(EventsObserver, WritesALineForAllButSingleSteps) {
  test::TemporaryFolder folder;
  const auto path = folder.path() / "events.jsonl";
  EventsObserver log(path);
  log.on_notice("before the start");
  log.on_start(test_run::started());
  log.on_step(test_run::step(1));
  log.on_step(test_run::skipped_step(2));
  log.on_notice("a bad case: \"\xff\"");
  log.on_patch_validation(test_run::patch_validation(2));
  log.on_validation(test_run::validation(4, 0.75, true));
  log.on_checkpoint("run/best.pt", 4);
  log.on_end(RunEnd::kInterrupted, 5);
  auto events = events_of(path);
  ASSERT_EQ(events.size(), 8U);
  const std::regex iso(R"(20\d\d-[01]\d-[0-3]\dT[0-2]\d:[0-5]\d:[0-6]\d\.\d{3}Z)");
  for (auto& event : events) {
    EXPECT_TRUE(std::regex_match(event.at("time").get<std::string>(), iso)) << event;
    event.erase("time");
  }
  EXPECT_GE(events[7].at("seconds").get<double>(), 0);
  events[7].erase("seconds");
  events[1].erase("version");
  const auto expect = [&](std::size_t i, const char* text) {
    EXPECT_EQ(events[i], Json::parse(text)) << events[i];
  };
  expect(0, R"({"event": "notice", "iteration": 0, "message": "before the start"})");
  expect(1, R"({"event": "start", "iteration": 0, "total_iterations": 10,
    "iterations_per_epoch": 5, "device": "cpu", "ranks": 1, "batch_size": 2, "parameters": 1234,
    "training_cases": 6, "validation_cases": 2, "regions": ["WT", "ET"],
    "best_metric": "dice_mean", "config": {"optimizer.name": "sgd",
    "optimizer.learning_rate": "0.01", "optimizer.nesterov": "true", "validation.every": "4",
    "validation.patches_every": "2"}})");
  expect(2, R"({"event": "skipped_step", "iteration": 2, "loss": "nan", "gradient_norm": "inf",
    "not_finite_first": "the input", "loss_scale": 1024.0})");
  expect(3,
         "{\"event\": \"notice\", \"iteration\": 2, \"message\": \"a bad case: \\\"\ufffd\\\"\"}");
  expect(4, R"({"event": "patch_validation", "iteration": 2, "patches": 32, "seconds": 1.0,
    "dice": {"WT": 0.5, "ET": 0.25, "mean": 0.375}})");
  expect(5, R"({"event": "validation", "iteration": 4, "metric": 0.5, "is_best": true,
    "seconds": 20.0, "dice": {"WT": 0.75, "ET": 0.25, "mean": 0.5},
    "hd95": {"WT": 6.0, "ET": "nan", "mean": 6.0}, "cases": [
      {"name": "first case", "dice": {"WT": 0.75, "ET": 0.5, "mean": 0.625},
       "hd95": {"WT": 4.0, "ET": "nan", "mean": 4.0}},
      {"name": "second case", "dice": {"WT": 0.75, "ET": 0.0, "mean": 0.375},
       "hd95": {"WT": 8.0, "ET": "nan", "mean": 8.0}}]})");
  expect(6, R"({"event": "checkpoint", "iteration": 4, "path": "run/best.pt"})");
  expect(7, R"({"event": "end", "iteration": 5, "result": "interrupted"})");
}

TEST(EventsObserver, ResumedRunGoesOnInTheFile) {
  test::TemporaryFolder folder;
  const auto path = folder.path() / "events.jsonl";
  EventsObserver(path).on_start(test_run::started());
  AppendFile(path).write("{\"time\": \"20");  // killed
  EventsObserver(path).on_start(test_run::started(4));
  const auto lines = lines_of(path);
  ASSERT_EQ(lines.size(), 2U);
  EXPECT_EQ(parse_json(lines[1], "line 2").at("iteration"), 4);
}

TEST(EventsObserver, FullDiskIsNamed) {
  EXPECT_EQ(test::error_of([] { EventsObserver("/dev/full").on_notice("full"); }),
            "cannot write /dev/full: No space left on device");
}

TEST(RunningMean, IsTheMeanFirstAndForgetsThen) {
  RunningMean mean(0.25);
  for (const double value : {6.0, 0.0, 3.0, 3.0}) mean.add(value);
  EXPECT_DOUBLE_EQ(mean.value(), 3);
  mean.add(7);
  EXPECT_DOUBLE_EQ(mean.value(), 4);
}

TEST(TimeLeft, CountsValidations) {
  TimeLeft left;
  // 10 steps; whole validations after 4, 8 and 10, and on patches after 2 and 6.
  left.on_start(test_run::started());
  EXPECT_TRUE(std::isnan(left.seconds()));
  left.on_step(test_run::step(1));
  EXPECT_FALSE(left.knows_validation());
  EXPECT_DOUBLE_EQ(left.seconds(), 9 * 0.5);
  left.on_step(test_run::step(2));
  left.on_patch_validation(test_run::patch_validation(2));
  left.on_step(test_run::step(3));
  EXPECT_DOUBLE_EQ(left.seconds(), 7 * 0.5 + 1);
  left.on_step(test_run::step(4));
  left.on_validation(test_run::validation(4, 0.5, true));
  EXPECT_TRUE(left.knows_validation());
  left.on_step(test_run::step(5));
  EXPECT_DOUBLE_EQ(left.seconds(), 5 * 0.5 + 1 + 2 * 20);
  left.on_step(test_run::step(10));
  EXPECT_DOUBLE_EQ(left.seconds(), 20);
}

// Against the rule of the trainer, step by step.
TEST(TimeLeft, CountsTheValidationsThatHappen) {
  for (const int every : {0, 1, 4, 6, 100}) {
    for (const int patches_every : {0, 1, 3, 4, 5, 10}) {
      auto event = test_run::started();
      event.config = {{"validation.every", concat(every)},
                      {"validation.patches_every", concat(patches_every)}};
      TimeLeft left;
      left.on_start(event);
      left.on_validation(test_run::validation(0, 0.5, true));   // 20 s
      left.on_patch_validation(test_run::patch_validation(0));  // 1 s
      for (int now = 1; now <= 10; ++now) {
        left.on_step(test_run::step(now));
        double expected = (10 - now) * 0.5;
        for (int i = now; i <= 10; ++i) {
          const bool whole = every > 0 && (i % every == 0 || i == 10);
          const bool patches = patches_every > 0 && i % patches_every == 0;
          expected += whole ? 20 : patches ? 1 : 0;
        }
        EXPECT_DOUBLE_EQ(left.seconds(), expected) << every << " " << patches_every << " " << now;
      }
    }
  }
}

TEST(TimeLeft, ResumedRunIsNotTakenForAFastOne) {
  TimeLeft left;
  left.on_start(test_run::started(5));
  left.on_step(test_run::step(6));
  EXPECT_DOUBLE_EQ(left.seconds(), 4 * 0.5);
}

TEST(TimeLeft, NothingIsValidatedWithoutCases) {
  TimeLeft left;
  auto event = test_run::started();
  event.validation_cases = 0;
  left.on_start(event);
  left.on_step(test_run::step(1));
  EXPECT_TRUE(left.knows_validation());
  EXPECT_DOUBLE_EQ(left.seconds(), 9 * 0.5);
}

// "info train 10% ..." of each line in the log file.
std::vector<std::string> logged(double line_seconds,
                                const std::function<void(ConsoleObserver&)>& run) {
  test::TemporaryFolder folder;
  const auto path = folder.path() / "train.log";
  const auto level = log_level();
  set_log_level(LogLevel::kError);
  open_log_file(path);
  {
    ConsoleObserver console(line_seconds);
    run(console);
  }
  close_log_file();
  set_log_level(level);
  auto lines = lines_of(path);
  for (auto& line : lines) line.erase(0, std::string("2026-11-26 01:20:52.123 ").size());
  return lines;
}

TEST(ConsoleObserver, TellsAPersonWhereTheRunStands) {
  // On a terminal these lines go to the log file alone, as debug.
  const std::string level = terminal_is_interactive() ? "debug" : "info";
  const auto lines = logged(0, [](ConsoleObserver& console) {
    console.on_notice("one patient is in two parts");
    console.on_start(test_run::started(2));
    console.on_step(test_run::step(3));
    console.on_step(test_run::skipped_step(4));
    console.on_patch_validation(test_run::patch_validation(4));
    console.on_validation_case(1, 2);
    console.on_validation(test_run::validation(4, 0.75, true));
    console.on_checkpoint("run/last.pt", 4);
    console.on_step(test_run::step(5));
    console.on_end(RunEnd::kInterrupted, 5);
  });
  EXPECT_THAT(
      lines,
      ElementsAre(
          "warning one patient is in two parts",
          "info training on cpu: 1234 parameters, 6 cases to train on, 2 to validate on",
          "info 10 iterations of 2 patches", "info resumed after iteration 2",
          level + " train 30% 3/10 ETA 0:04  loss 0.333  learning rate 0.25  2 it/s  1.5 GiB  "
                  "(ETA without validation)",
          "warning iteration 4 was skipped, nothing was updated: loss nan, gradient norm inf, loss "
          "scale 1024; not finite first: the input",
          level + " train 40% 4/10 ETA 0:03  loss 0.333  learning rate 0.25  2 it/s  1.5 GiB  "
                  "(ETA without validation)",
          "debug after 4 iterations: patch Dice WT 0.500 ET 0.250 mean 0.375 (32 patches in 0:01)",
          level + " train 40% 4/10 ETA 0:04  validated 1 of 2 cases  "
                  "(ETA without validation)",
          "info validation after 4 iterations: Dice WT 0.750 ET 0.250 mean 0.500, HD95 WT 6.0 ET "
          "nan mean 6.0 mm (2 cases in 0:20, worst case second case with 0.375), the best so far",
          "debug wrote run/last.pt at iteration 4",
          level + " train 50% 5/10 ETA 0:44  loss 0.267  Dice 0.500  learning rate 0.25  2 it/s  "
                  "1.5 GiB",
          "info stopped and saved after 5 iterations; the same command with --resume goes on"));
}

TEST(ConsoleObserver, AResumedRunThatValidatesFirstKnowsNoTime) {
  const std::string level = terminal_is_interactive() ? "debug" : "info";
  const auto lines = logged(0, [](ConsoleObserver& console) {
    console.on_start(test_run::started(4));
    console.on_validation_case(1, 2);
  });
  EXPECT_EQ(lines.back(), level + " train 40% 4/10  validated 1 of 2 cases");
}

TEST(ConsoleObserver, PrintsALineOnlyEverySoOften) {
  const auto lines = logged(3600, [](ConsoleObserver& console) {
    console.on_start(test_run::started());
    for (int iteration = 1; iteration <= 10; ++iteration) {
      console.on_step(test_run::step(iteration));
    }
    console.on_validation_case(1, 2);
    console.on_end(RunEnd::kComplete, 10);
  });
  ASSERT_EQ(lines.size(), 4U);
  EXPECT_THAT(lines[2], HasSubstr("train 100% 10/10"));
  EXPECT_EQ(lines[3], "info finished after 10 iterations");
}

TEST(TensorBoardObserver, ARunGoesOnWithoutIt) {
  const test::TemporaryFolder folder;
  write_file_atomically(folder.path() / "tensorboard", "a file where the folder belongs");
  ::testing::internal::CaptureStderr();
  TensorBoardObserver observer(folder.path() / "tensorboard");
  observer.on_start(test_run::started());
  observer.on_step(test_run::step(1));
  observer.on_patch_validation(test_run::patch_validation(1));
  observer.on_validation(test_run::validation(1, 1, true));
  observer.on_end(RunEnd::kComplete, 1);
  EXPECT_EQ(::testing::internal::GetCapturedStderr(),
            concat("warning: no more for TensorBoard: cannot make the folder ",
                   (folder.path() / "tensorboard").string(), ": a file has that name\n"));
}

}  // namespace
}  // namespace segmamba::engine
