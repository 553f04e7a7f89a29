// Programs that are killed again and again, and started again each time, end with the bits of those
// that nobody disturbed; and at no moment a reader sees half a file.
//   SEGMAMBA_KILLS=N  so many kills of each command, instead of three
#include <gmock/gmock.h>

#include <chrono>
#include <csignal>
#include <functional>
#include <map>
#include <thread>
#include <utility>
#include <vector>

#include "scenarios.h"
#include "segmamba/core/random.h"
#include "segmamba/engine/checkpoint.h"
#include "segmamba/engine/run_folder.h"
#include "whole.h"

namespace segmamba {
namespace {

namespace fs = std::filesystem;
using test::Outcome;
using test::Scenario;

// What a killed process was at, for the figures.
std::string phase_of(const test::Call& call) {
  const bool is_temporary = fs::path(call.path).filename().string().starts_with(".segmamba-tmp-");
  std::string file = call.known_name();
  if (starts_with(file, "BraTS-GLI")) file = "a case's file";
  if (call.is_in_folder("tensorboard")) file = "TensorBoard's file";
  return concat(call.name, is_temporary ? " of the new " : " of ", file);
}

class Kills : public test::Scenarios {
 protected:
  // Kills `scenario` until it was killed so often, starting it anew whenever it has ended, and
  // holds what it leaves to what an undisturbed run does. `look` is called after each kill, with
  // the folder and whether it is the first kill of that run.
  void kill_often(const Scenario& scenario,
                  const std::function<void(const fs::path&, bool)>& look = {});

 private:
  // One run; whether it was killed.
  bool run_and_kill(const Scenario& scenario, const fs::path& folder, Random& random);
  bool kill_in_a_call(const Scenario& scenario, const fs::path& folder, Random& random);
  bool kill_by_the_clock(const Scenario& scenario, const fs::path& folder, Random& random);

  std::map<std::string, int> phases_;  // how often each was met
};

bool Kills::kill_in_a_call(const Scenario& scenario, const fs::path& folder, Random& random) {
  const auto at = 1 + random.integer(std::ssize(undisturbed(scenario).writes));
  const bool is_after = random.chance(0.5);
  const Outcome outcome =
      run_with(folder, scenario.words,
               {.writes = folder / "out", .action = is_after ? "kill_after" : "kill", .at = at});
  if (outcome.exit_code == 0) return false;
  EXPECT_EQ(outcome.exit_code, 1000 + SIGKILL) << outcome.err;
  ++phases_[concat(is_after ? "after " : "in ", phase_of(hit_call(folder)))];
  return true;
}

bool Kills::kill_by_the_clock(const Scenario& scenario, const fs::path& folder, Random& random) {
  const auto wait = std::chrono::duration<double>(random.uniform() * undisturbed(scenario).seconds);
  // It may be killed before it has streams of its own.
  for (const char* stream : {"out.txt", "err.txt"}) write_file_atomically(folder / stream, "");
  const pid_t child = start(folder, scenario.words);
  std::this_thread::sleep_for(wait);
  ::kill(child, SIGKILL);
  const Outcome outcome = finish(folder, child);
  if (outcome.exit_code == 0) return false;
  EXPECT_EQ(outcome.exit_code, 1000 + SIGKILL) << outcome.err;
  ++phases_["by the clock"];
  return true;
}

bool Kills::run_and_kill(const Scenario& scenario, const fs::path& folder, Random& random) {
  return random.chance(0.7) ? kill_in_a_call(scenario, folder, random)
                            : kill_by_the_clock(scenario, folder, random);
}

void Kills::kill_often(const Scenario& scenario,
                       const std::function<void(const fs::path&, bool)>& look) {
  SCOPED_TRACE(scenario.name);
  const auto wanted = test::number_from_environment("SEGMAMBA_KILLS", 3);
  Random random(11);
  int ended = 0;
  std::int64_t kills = 0;
  bool is_new = true;
  auto folder = folder_for("killed");
  const auto end_it = [&] {
    EXPECT_EQ(test::difference(test::contents(folder / "out"), undisturbed(scenario).contents), "");
    ++ended;
  };
  while (kills < wanted) {
    if (!run_and_kill(scenario, folder, random)) {
      end_it();
      folder = folder_for("killed");
      is_new = true;
      continue;
    }
    ++kills;
    SCOPED_TRACE(concat("kill ", kills));
    EXPECT_NO_THROW(test::read_whole(folder / "out"));
    if (look) look(folder / "out", std::exchange(is_new, false));
    if (HasFailure()) return;
  }
  const Outcome last = run_in(folder, scenario.words);
  EXPECT_EQ(last.exit_code, 0) << last.err;
  end_it();

  std::printf("%s: %lld kills, %d runs to the end, the same bits as undisturbed\n",
              scenario.name.c_str(), static_cast<long long>(kills), ended);
  for (const auto& [phase, count] : std::exchange(phases_, {})) {
    std::printf("%6d %s\n", count, phase.c_str());
  }
}

// The newest checkpoint that is whole is never older than one that was there before.
TEST_F(Kills, Training) {
  auto keeps_several = training({"--set", "validation.keep_best=3", "validation.every=3",
                                 "validation.patches_every=2", "training.ema_decay=0.9"});
  keeps_several.name = "training_that_keeps_several_of_the_best";
  for (const auto& scenario : {training(), keeps_several}) {
    std::int64_t newest = 0;
    kill_often(scenario, [&](const fs::path& out, bool is_new) {
      const auto checkpoints = engine::RunFolder{out}.all_checkpoints();
      const auto iteration =
          checkpoints.empty() ? 0 : engine::load_checkpoint(checkpoints.front()).training.iteration;
      EXPECT_TRUE(is_new || iteration >= newest) << iteration << " after " << newest;
      newest = iteration;
    });
  }
}
TEST_F(Kills, Inference) { kill_often(inference()); }
TEST_F(Kills, InferenceOfEverything) { kill_often(inference_of_everything()); }
TEST_F(Kills, Preparation) { kill_often(preparation()); }
TEST_F(Kills, Phantoms) { kill_often(phantoms()); }

// They write each of their files once, and all of them again when they are started again: at any
// moment what is there is what an undisturbed run leaves.
TEST_F(Kills, CommandsThatWriteAtTheirEnd) {
  const std::vector<Scenario> scenarios = {evaluation(), division(),          check(),
                                           preview(),    import_of_weights(), export_of_weights()};
  for (const auto& scenario : scenarios) {
    kill_often(scenario, [&](const fs::path& out, bool) {
      const auto found = test::contents(out, test::Hidden::kIsLeftOut);
      auto expected = undisturbed(scenario).contents;
      std::erase_if(expected, [&](const auto& file) { return !found.contains(file.first); });
      EXPECT_EQ(test::difference(found, expected), "");
    });
  }
}

}  // namespace
}  // namespace segmamba
