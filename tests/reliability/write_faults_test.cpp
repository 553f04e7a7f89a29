// A disk that is full, fails, or may not be written, at each call by which a program changes a
// file.
//   SEGMAMBA_FAULTS=N       so many places of each command, evenly spread (0: all), instead of one
//   SEGMAMBA_FAULTS_FROM=N  beginning at the N-th call; else that differs from command to command
// A run that goes on after a fault makes other calls than a whole one. So it takes no second fault,
// which would not hit the call that it is for.
#include <gmock/gmock.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "scenarios.h"
#include "segmamba/core/text.h"
#include "whole.h"

namespace segmamba {
namespace {

namespace fs = std::filesystem;
using test::Call;
using test::Outcome;
using test::Scenario;

constexpr std::array kReasons = {ENOSPC, EIO, EDQUOT, EACCES, EROFS};

// What a program does about a call that fails.
enum class Answer {
  kError,    // it ends with exit code 1 and one line
  kWarning,  // one line, and it goes on: what it could not write only tells what other files hold
  kNothing   // it does without, or has another way
};

Answer answer_to(const Call& call, int reason) {
  const std::string name = call.known_name();
  // Other processes are told by the lock, not by its file.
  const bool is_lock = name.find("-lock") != std::string::npos;
  if (is_lock && (call.name == "unlink" || call.name == "close")) return Answer::kNothing;
  if (call.name == "link") return Answer::kNothing;  // there is copying
  const bool is_for_people = call.is_in_folder("tensorboard") || name == "train.log";
  const bool has_rows = is_for_people || name == "metrics.csv" || name == "events.jsonl";
  // Rows are the system's when they are written.
  if (has_rows && call.name == "close" && ends_with(call.path, "/" + name)) {
    return Answer::kNothing;
  }
  // Some file systems cannot flush folders.
  const bool is_told_of_a_folder = reason == ENOSPC || reason == EIO || reason == EDQUOT;
  if (call.name == "fsync" && fs::path(call.path).extension().empty() && !is_told_of_a_folder) {
    return Answer::kNothing;
  }
  return is_for_people ? Answer::kWarning : Answer::kError;
}

class WriteFaults : public test::Scenarios {
 protected:
  void survive(const Scenario& scenario);
  void survive_interrupted(const Scenario& scenario);
  void survive_at(const Scenario& scenario, std::size_t place);
};

// The report of a training is written from its other files, and again at the next validation. The
// folder is flushed for what was renamed in it just before.
Answer answer_of(const Scenario& scenario, const Call& call, const Call& before, int reason) {
  const auto answer = answer_to(call, reason);
  const auto& about = call.name == "fsync" && before.name == "rename" ? before : call;
  const bool is_report = scenario.name == "training" && about.known_name() == "report.html";
  return is_report && answer == Answer::kError ? Answer::kWarning : answer;
}

// What the program says that it cannot do, up to the path. Those of all commands are in "out".
std::string complaint_about(const Call& call) {
  const char* const deed = call.name == "mkdir"    ? "cannot make the folder"
                           : call.name == "unlink" ? "cannot remove"
                                                   : "cannot write";
  return concat(deed, " out");
}

void expect_answer(Answer answer, const Scenario& scenario, const Call& call, int reason,
                   const Outcome& outcome) {
  if (answer == Answer::kNothing) {
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    EXPECT_EQ(outcome.err, "");
    return;
  }
  const bool is_error = answer == Answer::kError;
  EXPECT_EQ(outcome.exit_code, is_error ? 1 : 0);
  EXPECT_EQ(test::line_count(outcome.err), 1) << outcome.err;
  EXPECT_TRUE(starts_with(outcome.err, is_error ? scenario.words[0] + ": " : "warning: "))
      << outcome.err;
  EXPECT_THAT(outcome.err, ::testing::HasSubstr(complaint_about(call)));
  EXPECT_THAT(outcome.err, ::testing::HasSubstr(call.known_name()));
  EXPECT_THAT(outcome.err, ::testing::HasSubstr(std::strerror(reason)));
}

// What the system does to any call at times, all the time: nothing comes of it.
void WriteFaults::survive_interrupted(const Scenario& scenario) {
  SCOPED_TRACE("interrupted");
  const auto& expected = undisturbed(scenario);
  const auto folder = folder_for("interrupted");
  const Outcome outcome =
      run_with(folder, scenario.words,
               {.writes = folder / "out", .action = "interrupted_short", .at = 1, .times = "all"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(outcome.err, "");
  EXPECT_EQ(test::difference(test::contents(folder / "out"), expected.contents), "");
  EXPECT_GT(calls(folder).size(), expected.writes.size());
}

void WriteFaults::survive_at(const Scenario& scenario, std::size_t place) {
  const int reason = kReasons[place % kReasons.size()];
  const auto folder = folder_for("fault");
  const Outcome outcome = run_with(folder, scenario.words,
                                   {.writes = folder / "out",
                                    .action = concat(reason),
                                    .at = static_cast<std::int64_t>(place) + 1});
  const auto [before, call] = hit_calls(folder);
  SCOPED_TRACE(concat(scenario.name, ", call ", place + 1, ", ", call.name, " ", call.path, ": ",
                      std::strerror(reason)));
  expect_answer(answer_of(scenario, call, before, reason), scenario, call, reason, outcome);
  EXPECT_NO_THROW(test::read_whole(folder / "out"));
  const Outcome again = run_in(folder, scenario.words);
  EXPECT_EQ(again.exit_code, 0) << again.err;
  EXPECT_EQ(test::difference(test::contents(folder / "out"), undisturbed(scenario).contents), "");
}

void WriteFaults::survive(const Scenario& scenario) {
  SCOPED_TRACE(scenario.name);
  const auto count = undisturbed(scenario).writes.size();
  ASSERT_GT(count, 0U);
  const auto places = test::fault_places(scenario.name, count);
  std::printf("%s: %zu calls that write, of which %zu fail, from call %zu on\n",
              scenario.name.c_str(), count, places.size(), places.front() + 1);
  survive_interrupted(scenario);
  for (const auto place : places) survive_at(scenario, place);
}

TEST_F(WriteFaults, Training) { survive(training()); }
TEST_F(WriteFaults, Inference) { survive(inference()); }
TEST_F(WriteFaults, InferenceOfEverything) { survive(inference_of_everything()); }
TEST_F(WriteFaults, Evaluation) { survive(evaluation()); }
TEST_F(WriteFaults, Phantoms) { survive(phantoms()); }
TEST_F(WriteFaults, Preparation) { survive(preparation()); }
TEST_F(WriteFaults, Division) { survive(division()); }
TEST_F(WriteFaults, Check) { survive(check()); }
TEST_F(WriteFaults, Preview) { survive(preview()); }
TEST_F(WriteFaults, Import) { survive(import_of_weights()); }
TEST_F(WriteFaults, Export) { survive(export_of_weights()); }

// From one call on, for good.
TEST_F(WriteFaults, ADiskThatStaysFullEndsTheFirstCase) {
  for (const auto& scenario : {inference(), preparation()}) {
    SCOPED_TRACE(scenario.name);
    const auto folder = folder_for("full");
    const auto& all = undisturbed(scenario).writes;
    const auto first_of_a_case = std::find_if(all.begin(), all.end(), [](const Call& call) {
      return starts_with(call.known_name(), "BraTS-GLI") && call.name == "write";
    });
    ASSERT_NE(first_of_a_case, all.end());
    const Outcome outcome = run_with(folder, scenario.words,
                                     {.writes = folder / "out",
                                      .action = concat(ENOSPC),
                                      .at = first_of_a_case - all.begin() + 1,
                                      .times = "all"});
    EXPECT_EQ(outcome.exit_code, 1);
    EXPECT_EQ(test::line_count(outcome.err), 1) << outcome.err;
    EXPECT_THAT(outcome.err, ::testing::HasSubstr("cannot write out/BraTS-GLI-"));
    EXPECT_THAT(outcome.err, ::testing::HasSubstr("No space left on device"));
    EXPECT_FALSE(fs::exists(folder / "out/manifest.json"));
  }
}

}  // namespace
}  // namespace segmamba
