// Input that vanishes, may not be read, cannot be read, or is cut short while it is mapped.
//   SEGMAMBA_FAULTS=N       so many places of each command, evenly spread (0: all), instead of one
//   SEGMAMBA_FAULTS_FROM=N  beginning at the N-th call; else that differs from command to command
#include <gmock/gmock.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>

#include "scenarios.h"
#include "segmamba/engine/checkpoint.h"
#include "whole.h"

namespace segmamba {
namespace {

namespace fs = std::filesystem;
using test::Call;
using test::Outcome;
using test::Scenario;
using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr std::array kReasons = {ENOENT, EACCES, EIO};

class ReadFaults : public test::Scenarios {
 protected:
  void survive(const Scenario& scenario);
  void survive_at(const Scenario& scenario, std::size_t place);
};

// How a program tells that it does without a case, and what it ends with.
struct WithoutCase {
  std::string beginning;  // of its line
  int exit_code;
};

WithoutCase without_case(const Scenario& scenario) {
  const std::string& program = scenario.words[0];
  if (program == "segmamba-train") return {"warning: left out of ", 0};
  if (program == "segmamba-eval") return {"warning: unreadable: ", 3};
  if (scenario.name == "preview") return {"warning: left out: ", 0};
  return {"error: ", program == "segmamba-infer" ? 3 : 1};
}

bool is_of_dicom(const Scenario& scenario) { return scenario.name == "inference_of_everything"; }

bool is_folder_of_case(const Scenario& scenario, const Call& call) {
  return call.path != scenario.input && fs::is_directory(call.path);
}

// Without the folder of a data set, or without the weights, there is nothing to do; without that of
// a case, which may hold a series of DICOM, others are done where no split is to be made.
bool ends_the_program(const Scenario& scenario, const Call& call) {
  if (is_of_dicom(scenario)) return false;
  const bool takes_what_there_is =
      scenario.words[0] == "segmamba-infer" || scenario.name == "check";
  if (takes_what_there_is && is_folder_of_case(scenario, call)) return false;
  return fs::is_directory(call.path) || ends_with(call.path, ".pt") ||
         ends_with(call.path, ".safetensors");
}

// A file that cannot be unpacked at once (read as a stream) is unpacked piece by piece (by zlib,
// whose reads have the same name), and of a cache whose size cannot be foretold the size is seen
// when it is made. The layout of a data set is seen in the next case's folder.
bool has_another_way(const Scenario& scenario, const Call& call) {
  if (is_folder_of_case(scenario, call)) return true;
  if (!ends_with(call.path, ".nii.gz")) return false;
  return call.name == "fopen" || call.name == "read" ||
         (scenario.name == "preparation" && call.name == "open");
}

// Names the file or folder, and why it could not be read. All calls that fail are on the input of
// the command: none on what libraries read for themselves, or on /proc.
void expect_told(const std::string& line, const Call& call, int reason) {
  EXPECT_THAT(line, AllOf(HasSubstr(call.path), HasSubstr(std::strerror(reason))));
}

// What fails is said in one line for people, and what is not said has not failed.
void expect_clear(const Scenario& scenario, const Call& call, int reason, const Outcome& outcome,
                  const std::string& differences) {
  auto lines = split(outcome.err, '\n');
  EXPECT_EQ(lines.back(), "");
  lines.pop_back();
  // What a check finds is no error of its own.
  const bool is_finding = scenario.name == "check" && outcome.exit_code != 0 && lines.empty();
  if (is_finding) {
    EXPECT_EQ(outcome.exit_code, 1);
    EXPECT_THAT(outcome.out,
                StartsWith(is_folder_of_case(scenario, call) ? "error    missing "
                                                             : "error    unreadable "));
    return expect_told(outcome.out, call, reason);
  }
  if (lines.empty()) {
    EXPECT_TRUE(has_another_way(scenario, call));
    EXPECT_EQ(outcome.exit_code, 0);
    EXPECT_EQ(differences, "");
    return;
  }
  const std::string program = scenario.words[0] + ": ";
  const auto expected = without_case(scenario);
  // A training has one case to validate. Without it, it ends.
  const bool is_of_validation = starts_with(lines.front(), "warning: left out of validation: ");
  const bool has_ended = starts_with(lines.back(), program);
  EXPECT_EQ(has_ended, is_of_validation || ends_the_program(scenario, call)) << outcome.err;
  EXPECT_EQ(outcome.exit_code, has_ended ? 1 : expected.exit_code) << outcome.err;
  EXPECT_EQ(lines.size(), is_of_validation ? 2U : 1U) << outcome.err;
  for (const auto& line : lines) {
    EXPECT_THAT(line, AnyOf(StartsWith(program), StartsWith(expected.beginning)));
    expect_told(line, call, reason);
  }
}

void ReadFaults::survive_at(const Scenario& scenario, std::size_t place) {
  const int reason = kReasons[place % kReasons.size()];
  const auto folder = folder_for("fault");
  const Outcome outcome = run_with(folder, scenario.words,
                                   {.reads = scenario.input,
                                    .action = concat(reason),
                                    .at = static_cast<std::int64_t>(place) + 1});
  const auto call = hit_call(folder);
  SCOPED_TRACE(concat(scenario.name, ", call ", place + 1, ", ", call.name, " ", call.path, ": ",
                      std::strerror(reason)));
  const auto& expected = undisturbed(scenario).contents;
  const auto found = test::contents(folder / "out");
  expect_clear(scenario, call, reason, outcome, test::difference(found, expected));
  EXPECT_NO_THROW(test::read_whole(folder / "out"));
  if (scenario.name == "training") return;  // a case that was left out has left its mark
  if (found.empty()) return;                // again would be as if for the first time
  const Outcome again = run_in(folder, scenario.words);
  EXPECT_EQ(again.exit_code, 0) << again.err;
  EXPECT_EQ(test::difference(test::contents(folder / "out"), expected), "");
}

void ReadFaults::survive(const Scenario& scenario) {
  SCOPED_TRACE(scenario.name);
  const auto count = read_count(scenario);
  ASSERT_GT(count, 0U);
  const auto places = test::fault_places(scenario.name, count);
  std::printf("%s: %zu calls that read, of which %zu fail, from call %zu on\n",
              scenario.name.c_str(), count, places.size(), places.front() + 1);
  for (const auto place : places) survive_at(scenario, place);
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
TEST_F(ReadFaults, Division) { survive(division()); }
TEST_F(ReadFaults, Check) { survive(check()); }
TEST_F(ReadFaults, Preview) { survive(preview()); }
TEST_F(ReadFaults, Export) { survive(export_of_weights()); }
TEST_F(ReadFaults, Import) { survive(import_of_weights()); }
TEST_F(ReadFaults, ImportOfSafetensors) {
  auto scenario = import_of_weights();
  scenario.name = "import_of_safetensors";
  *(std::find(scenario.words.begin(), scenario.words.end(), "--from") + 1) =
      shared("model/checkpoints/best.safetensors");
  survive(scenario);
}

// Neither a disk that fails nor a file that may not be read is damage: the checkpoint keeps its
// name, and the run goes on from it once it can be read.
TEST_F(ReadFaults, ACheckpointThatCannotBeReadIsNotPutAsideAsDamaged) {
  const auto scenario = training();
  const auto& writes = undisturbed(scenario).writes;
  const auto is_save = [](const Call& call) {
    return call.name == "rename" && call.known_name() == "last.pt";
  };
  const auto first = std::find_if(writes.begin(), writes.end(), is_save);
  ASSERT_NE(first, writes.end());
  const auto second = std::find_if(first + 1, writes.end(), is_save);
  ASSERT_NE(second, writes.end());
  const auto folder = folder_for("work");
  const Outcome killed = run_with(
      folder, scenario.words,
      {.writes = folder / "out", .action = "kill_after", .at = second - writes.begin() + 1});
  ASSERT_EQ(killed.exit_code, 1000 + SIGKILL) << killed.err;
  const auto last = folder / "out/checkpoints/last.pt";
  const auto content = read_file(last);
  ASSERT_TRUE(fs::exists(folder / "out/checkpoints/previous.pt"));  // which it must not go on from

  const auto copy = new_folder("copy");
  fs::copy(folder / "out", copy / "out", fs::copy_options::recursive);
  must(run_with(copy, scenario.words, {.reads = copy / "out/checkpoints/last.pt"}));
  const auto count = calls(copy).size();
  ASSERT_GT(count, 0U);

  const auto expect_refusal = [&](std::size_t place, int reason, const std::string& times) {
    SCOPED_TRACE(concat("call ", place + 1, ", ", times, ": ", std::strerror(reason)));
    const Outcome outcome = run_with(folder, scenario.words,
                                     {.reads = last,
                                      .action = concat(reason),
                                      .at = static_cast<std::int64_t>(place) + 1,
                                      .times = times});
    EXPECT_EQ(outcome.exit_code, 1);
    EXPECT_EQ(outcome.err, concat("segmamba-train: cannot read out/checkpoints/last.pt: ",
                                  std::strerror(reason), "\n"));
    ASSERT_TRUE(fs::exists(last));
    EXPECT_TRUE(read_file(last) == content);
    EXPECT_FALSE(fs::exists(last.string() + ".damaged"));
  };
  const auto places = test::fault_places("resumption", count);
  std::printf("resumption: %zu calls that read, of which %zu fail, from call %zu on\n", count,
              places.size(), places.front() + 1);
  for (const auto place : places) expect_refusal(place, kReasons[place % kReasons.size()], "1");
  expect_refusal(0, EIO, "all");

  must(run_in(folder, scenario.words));
  EXPECT_EQ(test::difference(test::contents(folder / "out"), undisturbed(scenario).contents), "");
}

// It would lose what it has.
TEST_F(ReadFaults, ARunWhoseCheckpointsCannotBeListedDoesNotStartAnew) {
  const auto scenario = training();
  const auto folder = folder_for("work");
  must(run_in(folder, scenario.words));
  const auto before = test::contents(folder / "out");
  const Outcome outcome = run_with(
      folder, scenario.words,
      {.reads = folder / "out/checkpoints", .action = concat(EIO), .at = 1, .times = "all"});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_EQ(test::line_count(outcome.err), 1) << outcome.err;
  EXPECT_THAT(outcome.err, AllOf(HasSubstr("checkpoints: "), HasSubstr(std::strerror(EIO))));
  EXPECT_EQ(test::difference(test::contents(folder / "out"), before), "");
}

// A data set whose folder is gone from some moment on, as an unmounted one.
TEST_F(ReadFaults, ADataSetThatVanishesEndsTheRun) {
  // Every patch reads its case anew, in the thread that trains: another one would find cases to be
  // bad while the run still goes on, which would be told in lines of their own.
  const auto scenario = training({"--set", "data.memory_gb=0", "training.workers=0"});
  const auto folder = folder_for("vanished");
  const Outcome outcome =
      run_with(folder, scenario.words,
               {.reads = scenario.input,
                .action = concat(ENOENT),
                // Where a run that keeps its cases in memory has read each of them once.
                .at = static_cast<std::int64_t>(read_count(training())) + 1,
                .times = "all"});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_EQ(test::line_count(outcome.err), 1) << outcome.err;
  EXPECT_THAT(outcome.err, AllOf(HasSubstr("cases cannot be read"), HasSubstr("case BraTS-GLI-"),
                                 HasSubstr(std::strerror(ENOENT))));
  EXPECT_NO_THROW(test::read_whole(folder / "out"));
}

// A cache that another process cuts short while a run has it mapped: one line, the checkpoint
// stays, and with the cache made again the run ends with the bits of an undisturbed one.
TEST_F(ReadFaults, AMappedCacheThatIsCutShort) {
  const auto folder = new_folder("work");
  const auto prepare = with_output(preparation(cases().string()).words, "cache");
  must(run_in(folder, prepare));
  const auto words = [&](const std::string& output) {
    return train_command(
        {"--output", output, "--resume", "-q", "--set", "data.cache=cache", "validation.every=0"});
  };
  must(run_with(folder, words("undisturbed"), {.writes = folder / "undisturbed"}));
  const auto writes = calls(folder);
  const auto save = std::find_if(writes.begin(), writes.end(), [](const Call& call) {
    return call.name == "rename" && call.known_name() == "last.pt";
  });
  ASSERT_NE(save, writes.end());

  // Cut while the run is held at its first checkpoint, so that most of it is still to come.
  Child child(folder, start_with(folder, words("out"),
                                 {.writes = folder / "out",
                                  .action = "stop_after",
                                  .at = save - writes.begin() + 1}));
  ASSERT_TRUE(child.stops());
  for (const auto& entry : fs::directory_iterator(folder / "cache")) {
    if (entry.path().extension() == ".case") fs::resize_file(entry.path(), 4096);
  }
  child.send(SIGCONT);
  const Outcome cut = child.finish();
  EXPECT_EQ(cut.exit_code, 1);
  EXPECT_THAT(cut.err, AllOf(StartsWith("segmamba-train: cannot read "),
                             HasSubstr(".case: it was cut short")));
  EXPECT_EQ(test::line_count(cut.err), 1) << cut.err;
  const auto iteration_of = [&](const std::string& output) {
    return engine::load_checkpoint(folder / output / "checkpoints/last.pt").training.iteration;
  };
  EXPECT_LT(iteration_of("out"), iteration_of("undisturbed"));

  EXPECT_EQ(run_in(folder, prepare).exit_code, 0);
  must(run_in(folder, words("out")));
  EXPECT_EQ(
      test::difference(test::contents(folder / "out"), test::contents(folder / "undisturbed")), "");
}

}  // namespace
}  // namespace segmamba
