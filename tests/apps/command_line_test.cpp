// What every program says to a wrong command line: one line, exit code 2 (1 for a wrong file).
#include <gmock/gmock.h>

#include "programs.h"

namespace segmamba {
namespace {

using test::Outcome;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class CommandLine : public test::Programs {
 protected:
  // No phantoms: nothing is run.
  static void SetUpTestSuite() {}
};

TEST_F(CommandLine, WhatIsMisspeltIsNamedWithTheNearest) {
  for (const auto& [words, message] : std::vector<std::pair<std::vector<std::string>, std::string>>{
           {{"segmamba-infer", "--chekpoint", "a.pt"},
            "there is no option '--chekpoint' (did you mean '--checkpoint'?)"},
           {{"segmamba-infer", "--chekpoint=a.pt", "--input", "b", "--output", "c"},
            "there is no option '--chekpoint' (did you mean '--checkpoint'?)"},
           {{"segmamba-train", "--zzz"}, "there is no option '--zzz'"},
           {{"segmamba-train", "config.yaml"}, "'config.yaml' is one argument too many"},
           {{"segmamba-infer"}, "--checkpoint is required"},
           {{"segmamba-data", "chek"}, "there is no command 'chek' (did you mean 'check'?); known"},
           {{"segmamba-data", "split", "cases", "--sed", "1"},
            "there is no option '--sed' (did you mean '--seed'?)"},
           {{"segmamba-data", "split", "cases", "--output", "a.yaml", "--seed", "x"},
            "--seed: x is not a whole number"},
           {{"segmamba-model"}, "a command is needed"}}) {
    const Outcome outcome = run(words);
    EXPECT_EQ(outcome.exit_code, 2) << join(words, " ");
    EXPECT_EQ(test::line_count(outcome.err), 1) << outcome.err;
    EXPECT_THAT(outcome.err,
                AllOf(HasSubstr(words[0] + ": " + message), HasSubstr("; see --help")));
  }
}

// What the system says of a path comes as an exception that is none of ours.
TEST_F(CommandLine, ControlBytesOfANameDoNotReachTheTerminal) {
  const std::string name(300, 'n');
  const Outcome outcome = run({"segmamba-train", "--config", "\x1b[31m" + name, "--output", "out"});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_EQ(outcome.err, concat("segmamba-train: ?[31m", name, ": File name too long\n"));
}

TEST_F(CommandLine, ACommandShowsItsOwnExamples) {
  const Outcome outcome = run({"segmamba-data", "check", "--help"});
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_THAT(outcome.out, AllOf(HasSubstr("  segmamba-data check data\n"),
                                 Not(HasSubstr("segmamba-data phantom"))));
}

}  // namespace
}  // namespace segmamba
