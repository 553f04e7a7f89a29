// segmamba-data as a process.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstdlib>

#include "case_files.h"
#include "segmamba/core/files.h"
#include "segmamba/core/json.h"
#include "segmamba/core/text.h"
#include "segmamba/data/check.h"
#include "support/temporary_folder.h"

namespace segmamba::data {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

struct Outcome {
  int exit_code;
  std::string out, err;
};

class DataProgram : public ::testing::Test {
 protected:
  DataProgram() {
    for (int i = 1; i <= 3; ++i) {
      test::write_case(folder_.path() / "cases", concat("BraTS-GLI-0000", i, "-000"), i);
    }
  }
  // Runs it inside the test's folder.
  Outcome run(const std::string& arguments) const {
    const std::string command = concat("cd '", folder_.path().string(), "' && '", SEGMAMBA_BIN_DIR,
                                       "/segmamba-data' ", arguments, " > out.txt 2> err.txt");
    const int status = std::system(command.c_str());
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, read_file(folder_.path() / "out.txt"),
            read_file(folder_.path() / "err.txt")};
  }
  test::TemporaryFolder folder_;
};

TEST_F(DataProgram, ChecksWhatTheLibraryChecks) {
  fs::remove(test::case_file(folder_.path() / "cases", "BraTS-GLI-00002-000", "seg"));
  const Outcome outcome = run("check cases --json c.json --html c.html --threads 1");
  EXPECT_EQ(outcome.exit_code, 1) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("error    missing            BraTS-GLI-00002-000: "));
  EXPECT_THAT(outcome.out, HasSubstr("3 cases of 3 patients: 1 errors, 0 warnings, 0 notices; "
                                     "training would not start\n"));
  DatasetConfig config;
  config.root = (folder_.path() / "cases").string();
  CheckReport report = check_dataset(config);
  report.root = "cases";  // as on the command line
  EXPECT_EQ(read_json(folder_.path() / "c.json"), report.to_json());
  EXPECT_EQ(read_file(folder_.path() / "c.html"), report.to_html());
}

TEST_F(DataProgram, CheckTakesAConfigAndWhatReplacesIt) {
  // Keys of training beside those of the files.
  write_file_atomically(folder_.path() / "train.yaml",
                        std::string("data:\n  root: nowhere\n  split: s.yaml\n  classes: "
                                    "[background, tumour]\n"));
  EXPECT_EQ(run("check --config train.yaml").err,
            "segmamba-data: nowhere: No such file or directory\n");
  const Outcome unknown = run("check --config train.yaml --set data.root=cases");
  EXPECT_EQ(unknown.exit_code, 1);
  EXPECT_THAT(unknown.out, HasSubstr("has label 2, 3, which no class has; known are 0 and 1"));
  const Outcome mapped = run("check cases --config train.yaml --label-map 2=tumour 3=1");
  EXPECT_EQ(mapped.exit_code, 0) << mapped.out << mapped.err;
  EXPECT_THAT(mapped.out, HasSubstr("0 errors, 0 warnings, 0 notices; ready to train"));
  EXPECT_EQ(run("check cases --channels t1c flair --classes background NCR ED ET").exit_code, 0);
}

TEST_F(DataProgram, CheckPrintsTheFirstOfManyFindings) {
  for (int i = 10; i < 35; ++i) {
    const std::string name = concat("BraTS-GLI-000", i, "-000");
    fs::create_directories(folder_.path() / "many" / name);
    write_file_atomically(folder_.path() / "many" / name / (name + "-seg.nii.gz"),
                          std::string("x"));
  }
  const auto lines = [](const Outcome& outcome) {
    return std::count(outcome.out.begin(), outcome.out.end(), '\n');
  };
  const Outcome outcome = run("check many --channels t1c");
  EXPECT_EQ(lines(outcome), 20 + 20 + 2 + 1) << outcome.out;
  EXPECT_THAT(outcome.out, HasSubstr("...      missing            5 more"));
  EXPECT_EQ(lines(run("check many --channels t1c --verbose")), 25 + 25 + 1);
}

TEST_F(DataProgram, UsageErrorsExitWithTwo) {
  for (const char* arguments :
       {"check", "check cases --layout dicom", "check cases --set data.root=x",
        "check cases --threads -1", "check cases --no-such-option"}) {
    const Outcome outcome = run(arguments);
    EXPECT_EQ(outcome.exit_code, 2) << arguments;
    EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
  }
}

TEST_F(DataProgram, SplitsEveryLayout) {
  write_file_atomically(folder_.path() / "table.csv",
                        std::string("case,image\na,x\nb,x\nc,x\nd,x\n"));
  EXPECT_EQ(run("split table.csv --output split.yaml").exit_code, 0);
  EXPECT_THAT(read_file(folder_.path() / "split.yaml"), HasSubstr("- d"));
}

}  // namespace
}  // namespace segmamba::data
