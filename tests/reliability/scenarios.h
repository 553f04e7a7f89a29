#pragma once
// A command of each kind, with all it can write, on data as small as may be.

#include <map>
#include <string>
#include <vector>

#include "faults.h"

namespace segmamba::test {

// Everything goes into the folder "out" of the working folder. The same command goes on, or does
// its work again, after a fault.
struct Scenario {
  std::string name;
  std::vector<std::string> words;
  fs::path input;  // the folder that it reads
};

// What a run comes to that nobody disturbs.
struct Undisturbed {
  std::map<std::string, std::string> contents;  // of "out"
  std::vector<Call> writes;                     // into "out"
  std::vector<Call> reads;                      // of the shared folder
  double seconds = 0;
};

class Scenarios : public FaultyPrograms {
 protected:
  static constexpr std::size_t kFew = 2;  // cases in the folder "few"

  // Beside the cases: a trained model, a few of the cases, their labels, and a DICOM series. Made
  // once for all suites of the program, whose end removes it.
  static void SetUpTestSuite();
  static void TearDownTestSuite() {}
  static void must(const Outcome& outcome) { ASSERT_EQ(outcome.exit_code, 0) << outcome.err; }
  static std::string shared(const std::string& name) { return (shared_->path() / name).string(); }

  Scenario training(const std::vector<std::string>& more = {}) const;
  static Scenario inference();
  static Scenario inference_of_everything();
  static Scenario evaluation();
  static Scenario phantoms();
  static Scenario preparation(const std::string& cases = shared("few"));
  static Scenario division();
  static Scenario check();
  static Scenario preview();
  static Scenario import_of_weights();
  static Scenario export_of_weights();

  // A working folder for one.
  fs::path folder_for(const std::string& name) const;
  // The same command with another folder than "out".
  static std::vector<std::string> with_output(std::vector<std::string> words, const fs::path& out);

  // Runs it once in the program, whichever suites ask. Throws Error where it fails or warns.
  const Undisturbed& undisturbed(const Scenario& scenario) const;
  // How many calls of that run read the scenario's input.
  std::size_t read_count(const Scenario& scenario) const;
};

}  // namespace segmamba::test
