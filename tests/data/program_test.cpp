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
                        std::string("data:\n  root: nowhere\n  split_seed: 3\n  classes: "
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
       {"check", "check cases --layout dicon", "check cases --set data.root=x",
        "check cases --threads -1", "check cases --no-such-option", "preview --output x",
        "preview -c x.yaml -o x --count 0", "preview -c x.yaml -o x --first -1",
        "preview -c x.yaml -o x --count 1001", "preview -c x.yaml -o x --first 9223372036854775807",
        "split cases -o s.yaml --folds -1", "split cases -o s.yaml --folds 1",
        "split cases -o s.yaml --folds 1001", "split cases -o s.yaml --folds 2 --test-share nan",
        "split cases -o s.yaml --folds 2 --test-share 1",
        "split cases -o s.yaml --test-share -0.1"}) {
    const Outcome outcome = run(arguments);
    EXPECT_EQ(outcome.exit_code, 2) << arguments;
    EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
  }
}

TEST_F(DataProgram, PreparesOnceAndSaysWhatItNeeds) {
  write_file_atomically(folder_.path() / "c.yaml",
                        std::string("preprocess: {recipe: upstream-code}\ntraining: {seed: 3}\n"));
  const std::string command = "prepare --config c.yaml --set data.root=cases --output cache";
  const Outcome first = run(command);
  EXPECT_EQ(first.exit_code, 0) << first.err;
  EXPECT_THAT(first.err, HasSubstr("3 cases: at most "));
  EXPECT_THAT(first.err, HasSubstr("are free"));
  EXPECT_THAT(first.err, HasSubstr("3 cases prepared, 0 were ready, 0 failed"));
  EXPECT_THAT(run(command).err, HasSubstr("0 cases prepared, 3 were ready, 0 failed"));
  // Other settings are refused, and replaced on request.
  const Outcome other = run(command + " --set preprocess.normalise=nonzero");
  EXPECT_EQ(other.exit_code, 1);
  EXPECT_EQ(other.err.substr(other.err.rfind("segmamba-data:")),
            "segmamba-data: cache is a cache that was made with other settings: \"normalise: "
            "crop\", now \"normalise: nonzero\"; give another folder, or --overwrite\n");
  EXPECT_EQ(run(command + " --set preprocess.normalise=nonzero --overwrite").exit_code, 0);
  // A bad case is named and the others are prepared.
  write_file_atomically(test::case_file(folder_.path() / "cases", "BraTS-GLI-00002-000", "t2w"),
                        std::string("x"));
  const Outcome bad = run("prepare -c c.yaml -s data.root=cases -o other");
  EXPECT_EQ(bad.exit_code, 1);
  EXPECT_THAT(bad.err, HasSubstr("BraTS-GLI-00002-000-t2w.nii.gz"));
  EXPECT_THAT(bad.err, HasSubstr("2 cases prepared, 0 were ready, 1 failed"));
}

TEST_F(DataProgram, ShowsTrainingPatches) {
  write_file_atomically(folder_.path() / "c.yaml", std::string("data: {patch_size: [4, 4, 4]}\n"));
  const std::string command = "preview -c c.yaml -s data.root=cases --count 5 --output out";
  const Outcome outcome = run(command);
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(read_file(folder_.path() / "out/preview.png").substr(1, 3), "PNG");
  const std::string page = read_file(folder_.path() / "out/preview.html");
  EXPECT_THAT(page, HasSubstr("<dt>begins at</dt><dd>z "));
  EXPECT_THAT(page, HasSubstr("4: BraTS-GLI-0000"));
  EXPECT_EQ(run(command).exit_code, 1);
  EXPECT_EQ(run(command + " --overwrite").exit_code, 0);
  EXPECT_EQ(read_file(folder_.path() / "out/preview.html"), page);
  EXPECT_EQ(run(command + " --overwrite --seed 9").exit_code, 0);
  EXPECT_NE(read_file(folder_.path() / "out/preview.html"), page);
}

TEST_F(DataProgram, SplitsIntoFoldsAndChecksThem) {
  EXPECT_EQ(run("split cases --folds 3 --test-share 0 --output folds.yaml").exit_code, 0);
  EXPECT_THAT(read_file(folder_.path() / "folds.yaml"), HasSubstr("fold_2:  # 1\n"));
  EXPECT_EQ(run("split cases --folds 4 --output folds4.yaml").exit_code, 1);
  EXPECT_EQ(run("check cases --split folds.yaml --fold 1").exit_code, 0);
  EXPECT_THAT(run("check cases --split folds.yaml").err, HasSubstr("has 3 folds"));
  write_file_atomically(folder_.path() / "leak.yaml",
                        std::string("train: [BraTS-GLI-00001-000]\ntest: [BraTS-GLI-00001-001]\n"));
  EXPECT_EQ(run("check cases --split leak.yaml").exit_code, 1);
  write_file_atomically(folder_.path() / "empty.yaml", std::string("{}\n"));
  const Outcome empty = run("check cases --split empty.yaml");
  EXPECT_EQ(empty.exit_code, 1);
  EXPECT_THAT(empty.out, HasSubstr("the split has no cases to train on\n"));
  EXPECT_THAT(run("split cases --folds -1 -o s.yaml").err,
              HasSubstr("--folds must lie from 2 to 1000, not -1"));
  EXPECT_THAT(run("split cases --folds 2 --test-share nan -o s.yaml").err,
              HasSubstr("--test-share must lie from 0 to below 1, not nan"));
}

TEST_F(DataProgram, CheckReplacesNoInput) {
  write_file_atomically(folder_.path() / "c.json", std::string("{data: {root: cases}}\n"));
  write_file_atomically(folder_.path() / "list.csv", std::string("case,t1c\na,x\n"));
  write_file_atomically(folder_.path() / "s.json",
                        std::string("{\"train\": [\"BraTS-GLI-00001-000\"]}\n"));
  fs::create_symlink("list.csv", folder_.path() / "link.json");
  const auto image = test::case_file("cases", "BraTS-GLI-00001-000", "t1c").string();
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"check -c c.json --json ./c.json", "--json ./c.json would replace an input; give another "},
      {"check list.csv --json list.csv", "--json must be a file NAME.json, not list.csv"},
      {"check list.csv --json link.json", "--json link.json would replace an input"},
      {"check cases --split s.json --json s.json", "--json s.json would replace an input"},
      {"check cases --json cases/dataset.json", "would replace an input"},
      {"check cases --html " + image, "--html must be a file NAME.html, not " + image}};
  for (const auto& [arguments, message] : cases) {
    const Outcome outcome = run(arguments);
    EXPECT_EQ(outcome.exit_code, 2) << arguments;
    EXPECT_EQ(outcome.out, "") << arguments;
    EXPECT_THAT(outcome.err, HasSubstr(message));
  }
  EXPECT_EQ(read_file(folder_.path() / "list.csv"), "case,t1c\na,x\n");
  EXPECT_EQ(run("check cases --json out.json").exit_code, 0);
  EXPECT_EQ(run("check cases --json out.json").exit_code, 0);  // its own report
}

TEST_F(DataProgram, SplitTakesNoFolderForACaseAndLeavesNoneOut) {
  fs::create_directories(folder_.path() / "cases/docs");
  write_file_atomically(folder_.path() / "cases/docs/readme.txt", std::string("x"));
  const Outcome outcome = run("split cases --output split.yaml");
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("1 cases to train, 1 to validate, 1 to test in split.yaml"));
  fs::create_symlink("loop", folder_.path() / "cases/loop");
  const Outcome loop = run("split cases --output other.yaml");
  EXPECT_EQ(loop.exit_code, 1);
  EXPECT_THAT(loop.err, HasSubstr("cases/loop: Too many levels of symbolic links"));
  EXPECT_FALSE(fs::exists(folder_.path() / "other.yaml"));
  const Outcome check = run("check cases");
  EXPECT_EQ(check.exit_code, 1);
  EXPECT_THAT(check.out, HasSubstr("3 cases of 3 patients: 1 errors, 1 warnings"));
}

TEST_F(DataProgram, SplitsEveryLayout) {
  write_file_atomically(folder_.path() / "table.csv",
                        std::string("case,image\na,x\nb,x\nc,x\nd,x\n"));
  EXPECT_EQ(run("split table.csv --output split.yaml").exit_code, 0);
  EXPECT_THAT(read_file(folder_.path() / "split.yaml"), HasSubstr("- d"));
}

}  // namespace
}  // namespace segmamba::data
