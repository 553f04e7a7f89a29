// segmamba-eval as a process.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstdlib>

#include "scene.h"
#include "segmamba/core/files.h"
#include "segmamba/core/text.h"
#include "segmamba/core/version.h"
#include "segmamba/eval/evaluate.h"
#include "segmamba/eval/report.h"
#include "support/temporary_folder.h"

namespace segmamba::eval {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::write_data_set;
namespace fs = std::filesystem;

struct Outcome {
  int exit_code;
  std::string out, err;
};

class Program : public ::testing::Test {
 protected:
  Program() { write_data_set(folder_.path()); }

  // Runs it inside the test's folder.
  Outcome run(const std::string& arguments) {
    const std::string command = concat("cd '", folder_.path().string(), "' && '", SEGMAMBA_BIN_DIR,
                                       "/segmamba-eval' ", arguments, " > out.txt 2> err.txt");
    const int status = std::system(command.c_str());
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, read_file(folder_.path() / "out.txt"),
            read_file(folder_.path() / "err.txt")};
  }
  static std::int64_t lines(const std::string& text) {
    return std::count(text.begin(), text.end(), '\n');
  }
  test::TemporaryFolder folder_;
};

TEST_F(Program, WritesWhatTheLibraryComputes) {
  const Outcome outcome =
      run("--prediction prediction --reference reference --convention segmamba,brats2023 "
          "--output 'all scores'");
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;

  EvaluateOptions options;
  options.methods = {{"prediction", folder_.path() / "prediction"}};
  options.reference = folder_.path() / "reference";
  options.conventions = {metrics::find_convention("segmamba"),
                         metrics::find_convention("brats2023")};
  const Evaluation expected = evaluate(options);
  const fs::path scores = folder_.path() / "all scores";
  EXPECT_EQ(read_file(scores / "cases.csv"), cases_csv(expected));
  EXPECT_EQ(read_file(scores / "table.md"), table_markdown(expected));
  EXPECT_EQ(outcome.out, table_text(expected));
  const Json summary = read_json(scores / "summary.json");
  EXPECT_EQ(summary.at("summary"), summary_json(expected).at("summary"));
  EXPECT_EQ(std::distance(fs::directory_iterator(scores), fs::directory_iterator()), 3);
}

TEST_F(Program, ScoresOnePartOfASplit) {
  testing::write_text(folder_.path() / "split.yaml",
                      "train: [BraTS-GLI-00000-000]\nvalidation: [BraTS-GLI-00002-000]\n"
                      "test: [BraTS-GLI-00001-000, BraTS-GLI-00003-000]\n");
  fs::remove(folder_.path() / "prediction/BraTS-GLI-00000-000.nii.gz");
  const Outcome outcome = run("-p prediction -r reference --split split.yaml --metrics dice -o s");
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(lines(read_file(folder_.path() / "s/cases.csv")), 1 + 2 * 3);
  EXPECT_EQ(run("-p prediction -r reference --split split.yaml --part train").exit_code, 1);
  EXPECT_EQ(run("-p prediction -r reference --split split.yaml --part all").exit_code, 2);
}

TEST_F(Program, WithoutOutputOnlyPrints) {
  const Outcome outcome = run("-p prediction -r reference");
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_THAT(outcome.out, HasSubstr("prediction  segmamba"));
}

TEST_F(Program, HelpVersionAndExplain) {
  const Outcome version_outcome = run("--version");
  EXPECT_EQ(version_outcome.exit_code, 0);
  EXPECT_EQ(version_outcome.out, "segmamba-eval " + version() + "\n");
  const Outcome help = run("--help");
  EXPECT_EQ(help.exit_code, 0);
  EXPECT_THAT(help.out, AllOf(HasSubstr("--convention"), HasSubstr("brats2023-met")));
  const Outcome explain = run("--explain --convention segmamba,brats2023");
  EXPECT_EQ(explain.exit_code, 0);
  EXPECT_THAT(explain.out, AllOf(HasSubstr("both 50"), HasSubstr("HD95 374")));
}

TEST_F(Program, AFullDiskUnderTheTableIsAnError) {
  const Outcome outcome = run("-p prediction -r reference 1> /dev/full; (exit $?)");
  EXPECT_EQ(outcome.exit_code, 1);
}

TEST_F(Program, PathsThatAreNotUtf8AreReported) {
  fs::rename(folder_.path() / "prediction", folder_.path() / "pr\xe9");
  const Outcome outcome = run("-p pr\xe9 -r reference -o scores");
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(read_json(folder_.path() / "scores/summary.json")["methods"]["prediction"],
            "pr\xEF\xBF\xBD");
}

TEST_F(Program, UsageErrorsExitWithTwo) {
  for (const char* arguments :
       {"", "--prediction prediction", "-p prediction -r reference --convention medpi",
        "-p prediction -r reference --regions XY", "-p prediction -r reference --metrics dise",
        "-p prediction -r reference --threads -1", "--no-such-option"}) {
    const Outcome outcome = run(arguments);
    EXPECT_EQ(outcome.exit_code, 2) << arguments;
    EXPECT_EQ(lines(outcome.err), 1) << outcome.err;
  }
}

TEST_F(Program, ErrorsAreOneLineAndExitWithOne) {
  const auto expect_error = [&](const std::string& arguments, const std::string& words) {
    const Outcome outcome = run(arguments);
    EXPECT_EQ(outcome.exit_code, 1) << arguments;
    EXPECT_EQ(lines(outcome.err), 1) << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr(words));
    EXPECT_EQ(outcome.out, "");
    EXPECT_FALSE(fs::exists(folder_.path() / "scores"));
  };
  fs::create_directory(folder_.path() / "empty");
  expect_error("-p empty -r reference -o scores", "no cases in empty");
  expect_error("-p absent -r reference -o scores", "absent does not exist");

  io::LabelMap moved = testing::tumour();
  moved.geometry.origin = {0, 10, 0};
  testing::put_labels(folder_.path() / "prediction/BraTS-GLI-00001-000.nii.gz", moved);
  expect_error("-p prediction -r reference -o scores", "are not on one grid");
  fs::remove(folder_.path() / "prediction/BraTS-GLI-00001-000.nii.gz");
  expect_error("-p prediction -r reference -o scores", "1 of 4 reference cases have no prediction");
  EXPECT_EQ(run("-p prediction -r reference --allow-missing -o scores").exit_code, 0);
}

}  // namespace
}  // namespace segmamba::eval
