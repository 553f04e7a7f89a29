// Input that vanishes, may not be read, cannot be read, or is cut short while it is mapped.
//   SEGMAMBA_FAULTS=N  so many places of each command, evenly spread (0: all), instead of two
#include <gmock/gmock.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>

#include "scenarios.h"
#include "segmamba/engine/checkpoint.h"
#include "whole.h"

namespace segmamba {
namespace {

namespace fs = std::filesystem;
using test::Outcome;
using test::Scenario;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;

constexpr std::array kReasons = {ENOENT, EACCES, EIO};

class ReadFaults : public test::Scenarios {
 protected:
  void survive(const Scenario& scenario);
  void survive_at(const Scenario& scenario, const std::map<std::string, std::string>& expected,
                  std::size_t place);
};

// Every line is one for people; what fails is said, and what is not said has not failed.
void expect_clear(const Scenario& scenario, const Outcome& outcome,
                  const std::string& differences) {
  EXPECT_THAT(outcome.exit_code, ::testing::AnyOf(0, 1, 3)) << outcome.err;
  auto lines = split(outcome.err, '\n');
  EXPECT_EQ(lines.back(), "");
  lines.pop_back();
  for (const auto& line : lines) {
    EXPECT_THAT(line, MatchesRegex(concat("(warning: |error: |", scenario.words[0], ": ).*")));
    EXPECT_THAT(line, ::testing::Not(HasSubstr("what()")));
  }
  if (outcome.exit_code != 0 || !differences.empty()) {
    EXPECT_THAT(lines.size(), ::testing::AnyOf(1, 2)) << outcome.err;
    EXPECT_NE(outcome.err + outcome.out, "") << differences;
  }
  if (outcome.exit_code == 1 && outcome.out.empty()) {
    EXPECT_FALSE(lines.empty());
  }
}

void ReadFaults::survive_at(const Scenario& scenario,
                            const std::map<std::string, std::string>& expected, std::size_t place) {
  const int reason = kReasons[place % kReasons.size()];
  const auto folder = folder_for("fault");
  const Outcome outcome = run_with(folder, scenario.words,
                                   {.folder = scenario.input,
                                    .action = concat(reason),
                                    .at = static_cast<std::int64_t>(place) + 1,
                                    .on = "read"});
  const auto call = hit_call(folder);
  SCOPED_TRACE(concat(scenario.name, ", call ", place + 1, ", ", call.name, " ", call.path, ": ",
                      std::strerror(reason)));
  const auto differences = test::difference(test::contents(folder / "out"), expected);
  expect_clear(scenario, outcome, differences);
  EXPECT_NO_THROW(test::read_whole(folder / "out"));
  if (scenario.name == "training") return;  // a case that was left out has left its mark
  const Outcome again = run_in(folder, scenario.words);
  EXPECT_EQ(again.exit_code, 0) << again.err;
  EXPECT_EQ(test::difference(test::contents(folder / "out"), expected), "");
}

void ReadFaults::survive(const Scenario& scenario) {
  const auto folder = folder_for("undisturbed");
  const Outcome undisturbed =
      run_with(folder, scenario.words, {.folder = scenario.input, .on = "read"});
  ASSERT_EQ(undisturbed.exit_code, 0) << undisturbed.err;
  const auto expected = test::contents(folder / "out");
  const auto all = calls(folder);
  ASSERT_FALSE(all.empty());
  const auto wanted = static_cast<std::size_t>(test::number_from_environment("SEGMAMBA_FAULTS", 2));
  const std::size_t count = wanted == 0 ? all.size() : std::min(wanted, all.size());
  const std::size_t first = scenario.name.size() * 7;
  for (std::size_t i = 0; i < count; ++i) {
    survive_at(scenario, expected, (first + i * all.size() / count) % all.size());
  }
  std::printf("%s: %zu calls that read\n", scenario.name.c_str(), all.size());
}

TEST_F(ReadFaults, Training) { survive(training()); }
TEST_F(ReadFaults, Inference) { survive(inference()); }
TEST_F(ReadFaults, InferenceOfDicom) { survive(inference_of_everything()); }
TEST_F(ReadFaults, Checkpoint) {
  auto scenario = inference();
  scenario.input = shared("model");
  survive(scenario);
}
TEST_F(ReadFaults, Evaluation) { survive(evaluation()); }
TEST_F(ReadFaults, Preparation) { survive(preparation()); }
TEST_F(ReadFaults, Import) { survive(import_of(".safetensors")); }

// It would lose what it has.
TEST_F(ReadFaults, ARunWhoseCheckpointsCannotBeListedDoesNotStartAnew) {
  const auto scenario = training();
  const auto folder = folder_for("work");
  must(run_in(folder, scenario.words));
  const auto before = test::contents(folder / "out");
  const Outcome outcome = run_with(folder, scenario.words,
                                   {.folder = folder / "out/checkpoints",
                                    .action = concat(EIO),
                                    .at = 1,
                                    .times = "all",
                                    .on = "read"});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_EQ(test::line_count(outcome.err), 1) << outcome.err;
  EXPECT_THAT(outcome.err, AllOf(HasSubstr("checkpoints: "), HasSubstr(std::strerror(EIO))));
  EXPECT_EQ(test::difference(test::contents(folder / "out"), before), "");
}

// A data set whose folder is gone from some moment on, as an unmounted one.
TEST_F(ReadFaults, ADataSetThatVanishesEndsTheRun) {
  const auto scenario = training();
  const auto folder = folder_for("undisturbed");
  ASSERT_EQ(run_with(folder, scenario.words, {.folder = scenario.input, .on = "read"}).exit_code,
            0);
  const auto all = calls(folder);
  for (const std::size_t share : {2, 3, 4}) {
    SCOPED_TRACE(share);
    const auto other = folder_for("vanished");
    const Outcome outcome = run_with(other, scenario.words,
                                     {.folder = scenario.input,
                                      .action = concat(ENOENT),
                                      .at = static_cast<std::int64_t>(all.size() * share / 5),
                                      .times = "all",
                                      .on = "read"});
    // Cases that were read before stay in memory, and may suffice.
    expect_clear(scenario, outcome, "");
    EXPECT_NO_THROW(test::read_whole(other / "out"));
  }
}

// A cache that another process cuts short while a run has it mapped: one line, the checkpoint
// stays, and with the cache made again the run ends with the bits of an undisturbed one.
TEST_F(ReadFaults, AMappedCacheThatIsCutShort) {
  const auto folder = folder_for("work");
  const std::vector<std::string> prepare = {
      "segmamba-data",     "prepare", "--config",
      shared("tiny.yaml"), "--set",   "data.root=" + cases().string(),
      "--output",          "cache",   "-q"};
  must(run_in(folder, prepare));
  const auto words = [&](const std::string& output) {
    return train_command({"--output", output, "--resume", "-q", "--set", "data.cache=cache",
                          "--set", "training.iterations=40", "--set", "validation.every=0"});
  };
  must(run_in(folder, words("undisturbed")));

  const pid_t child = start(folder, words("out"));
  const auto last = folder / "out/checkpoints/last.pt";
  for (int i = 0; i < 3000 && !fs::exists(last); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  for (const auto& entry : fs::directory_iterator(folder / "cache")) {
    if (entry.path().extension() == ".case") fs::resize_file(entry.path(), 4096);
  }
  const Outcome cut = finish(folder, child);
  EXPECT_EQ(cut.exit_code, 1);
  EXPECT_THAT(cut.err, AllOf(::testing::StartsWith("segmamba-train: cannot read "),
                             HasSubstr(".case: it was cut short")));
  EXPECT_EQ(test::line_count(cut.err), 1) << cut.err;
  EXPECT_LT(engine::load_checkpoint(last).training.iteration, 40);

  EXPECT_EQ(run_in(folder, prepare).exit_code, 0);
  must(run_in(folder, words("out")));
  EXPECT_EQ(
      test::difference(test::contents(folder / "out"), test::contents(folder / "undisturbed")), "");
}

}  // namespace
}  // namespace segmamba
