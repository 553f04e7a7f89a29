// segmamba-eval as a process.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <functional>

#include "scene.h"
#include "segmamba/core/file_lock.h"
#include "segmamba/core/files.h"
#include "segmamba/core/text.h"
#include "segmamba/core/version.h"
#include "segmamba/eval/analysis.h"
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

  // Runs it inside the test's folder, after a command of the shell.
  Outcome run(const std::string& arguments, const std::string& before = "true") {
    const std::string command =
        concat("cd '", folder_.path().string(), "' && ", before, " && '", SEGMAMBA_BIN_DIR,
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
  options.pictures = true;
  Evaluation expected = evaluate(options, plan_evaluation(options));
  expected.methods[0].predictions = "prediction";  // as on the command line
  const Analysis analysis = analyse(expected);
  const fs::path scores = folder_.path() / "all scores";
  EXPECT_EQ(read_file(scores / "cases.csv"), cases_csv(expected));
  EXPECT_EQ(read_file(scores / "table.md"), table_markdown(expected, analysis));
  EXPECT_EQ(read_file(scores / "table.tex"), table_latex(expected, analysis));
  EXPECT_EQ(read_file(scores / "report.html"), report_html(expected, analysis));
  EXPECT_EQ(outcome.out, table_text(expected, analysis));
  EXPECT_EQ(read_json(scores / "summary.json"), summary_json(expected, analysis));
  EXPECT_EQ(std::distance(fs::directory_iterator(scores), fs::directory_iterator()), 5);
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

TEST_F(Program, TunesPostprocessing) {
  const std::string arguments = "-p prediction -r reference --tune-postprocess new/post.yaml";
  const Outcome few = run(arguments);
  EXPECT_EQ(few.exit_code, 1);
  EXPECT_THAT(few.err, HasSubstr("needs cases of at least 5 patients"));
  for (int i = 4; i < 8; ++i) {
    const std::string name = concat("BraTS-GLI-0000", i, "-000");
    testing::put_labels(folder_.path() / "reference" / name / (name + "-seg.nii.gz"),
                        testing::tumour());
    testing::put_labels(folder_.path() / "prediction" / (name + ".nii.gz"), testing::tumour(i % 4));
  }
  const Outcome outcome = run(arguments);
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, AllOf(HasSubstr("Post-processing by dice of segmamba (%), 8 cases"),
                                 HasSubstr("no rule helps: nothing is switched on")));
  EXPECT_THAT(outcome.err, HasSubstr("wrote new/post.yaml, which switches nothing on"));
  const std::string file = read_file(folder_.path() / "new/post.yaml");
  EXPECT_THAT(file, HasSubstr("postprocess:\n  fill_holes: []\n"));

  const Outcome refused = run(arguments);
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_THAT(refused.err, HasSubstr("new/post.yaml exists; pass --overwrite"));
  fs::remove(folder_.path() / "prediction/BraTS-GLI-00001-000.nii.gz");
  const Outcome with_problem = run(arguments + " --overwrite");
  EXPECT_EQ(with_problem.exit_code, 3) << with_problem.err;
  EXPECT_THAT(with_problem.out, HasSubstr("7 cases"));
  EXPECT_EQ(run(arguments + " --overwrite --strict").exit_code, 1);
  EXPECT_EQ(run("-p prediction -r reference --tune-postprocess new").exit_code, 1);
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
  EXPECT_EQ(read_json(folder_.path() / "scores/summary.json")["settings"]["methods"]["prediction"],
            "pr\xEF\xBF\xBD");
}

TEST_F(Program, UsageErrorsExitWithTwo) {
  for (const char* arguments :
       {"", "--prediction prediction", "-p prediction -r reference --convention medpi",
        "-p prediction -r reference --regions XY", "-p prediction -r reference --metrics dise",
        "-p prediction -r reference --threads -1", "-p prediction -r reference --resamples -1",
        "-p prediction -r reference --worst -1", "--no-such-option",
        "-p prediction -r reference --tune-postprocess p.yaml --metrics hd95",
        "-p prediction -r reference --tune-postprocess p.yaml --convention medpy,monai",
        "-p prediction -r reference --tune-postprocess p.yaml --resamples 0",
        "-p prediction -r reference --tune-postprocess p.yaml -o scores"}) {
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

  testing::write_text(folder_.path() / "file", "");
  expect_error("-p prediction -r reference -o file", "is a file, not a folder");
  fs::remove_all(folder_.path() / "prediction");
  testing::put_labels(folder_.path() / "prediction/other.nii.gz", testing::tumour());
  const Outcome outcome = run("-p prediction -r reference -o scores");
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_THAT(outcome.err, HasSubstr("no case can be scored"));
  EXPECT_FALSE(fs::exists(folder_.path() / "scores"));
}

TEST_F(Program, ScoresAreNotOverwrittenUnasked) {
  ASSERT_EQ(run("-p prediction -r reference -o s").exit_code, 0);
  const std::string before = read_file(folder_.path() / "s/cases.csv");
  const Outcome refused = run("-p reference -r reference -o s");
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_EQ(lines(refused.err), 1);
  EXPECT_THAT(refused.err, HasSubstr("--overwrite"));
  EXPECT_EQ(read_file(folder_.path() / "s/cases.csv"), before);
  EXPECT_EQ(run("-p reference -r reference -o s --overwrite --no-html").exit_code, 0);
  EXPECT_NE(read_file(folder_.path() / "s/cases.csv"), before);
  EXPECT_FALSE(fs::exists(folder_.path() / "s/report.html"));
}

// report.html is beyond the limit, which is 4 or 8 KiB. The old scores are gone then, so that those
// of two evaluations never lie beside each other.
TEST_F(Program, AFileTooLargeIsToldAndTheSameCommandGoesOn) {
  ASSERT_EQ(run("-p prediction -r reference -o s").exit_code, 0);
  ASSERT_EQ(run("-p reference -r reference -o expected").exit_code, 0);
  const Outcome outcome = run("-p reference -r reference -o s --overwrite", "ulimit -f 8");
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_EQ(lines(outcome.err), 1) << outcome.err;
  EXPECT_THAT(outcome.err,
              AllOf(HasSubstr("segmamba-eval: cannot write s/"), HasSubstr(": File too large\n")));
  for (const auto& entry : fs::directory_iterator(folder_.path() / "s")) {
    const std::string name = entry.path().filename().string();
    if (name == ".segmamba-eval-unfinished") continue;
    EXPECT_EQ(read_file(entry.path()), read_file(folder_.path() / "expected" / name)) << name;
  }
  const Outcome again = run("-p reference -r reference -o s");
  EXPECT_EQ(again.exit_code, 0) << again.err;
  EXPECT_EQ(read_file(folder_.path() / "s/report.html"),
            read_file(folder_.path() / "expected/report.html"));
  EXPECT_FALSE(fs::exists(folder_.path() / "s/.segmamba-eval-unfinished"));
}

TEST_F(Program, TwoDoNotShareAFolder) {
  {
    const FolderLock lock(folder_.path() / "s");
    const Outcome refused = run("-p prediction -r reference -o s");
    EXPECT_EQ(refused.exit_code, 1);
    EXPECT_EQ(lines(refused.err), 1) << refused.err;
    EXPECT_THAT(refused.err,
                HasSubstr(concat("segmamba-eval: s is in use by process ", ::getpid(), " on ")));
    EXPECT_FALSE(fs::exists(folder_.path() / "s/cases.csv"));
  }
  EXPECT_EQ(run("-p prediction -r reference -o s").exit_code, 0);
  EXPECT_FALSE(fs::exists(folder_.path() / "s/.segmamba-lock"));
}

TEST_F(Program, ComparesMethods) {
  const Outcome outcome =
      run("-p A=prediction -p B=reference -r reference --metrics dice,nsd_2mm -o s");
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, AllOf(HasSubstr("Leaderboard"), HasSubstr("A - B"),
                                 HasSubstr("Worst cases"), HasSubstr("nsd_2mm")));
  EXPECT_EQ(lines(read_file(folder_.path() / "s/cases.csv")), 1 + 2 * 4 * 3 * 2);
}

TEST_F(Program, ScoresRegionsOfAFile) {
  testing::write_text(folder_.path() / "organs.yaml",
                      "regions:\n  rim: [2]\n  heart: [1, 3]\nlabels: [1, 2]\n");
  EXPECT_EQ(run("-p prediction -r reference --regions organs.yaml").exit_code, 1);
  testing::write_text(folder_.path() / "organs.yaml",
                      "regions:\n  rim: [2]\n  heart: [1, 3]\nlabels: [1, 2, 3]\n");
  const Outcome outcome = run("-p prediction -r reference --regions organs.yaml");
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("rim Dice  rim HD95  heart Dice  heart HD95"));
  EXPECT_THAT(run("-p prediction -r reference --regions labels").out,
              HasSubstr("1 Dice  1 HD95  2 Dice  2 HD95  3 Dice"));
}

// Each defect of the input: what is said, and whether the case has scores all the same.
struct Defect {
  std::string name;
  std::string words;  // on standard error
  bool is_scored;
  std::function<void(const fs::path& folder)> make;
};

io::Image fractions() {
  const io::LabelMap labels = testing::tumour();
  io::Image image{labels.geometry, {labels.voxels.begin(), labels.voxels.end()}};
  image.voxels[5] = 1.5f;
  return image;
}

const std::string kBad = "prediction/BraTS-GLI-00001-000.nii.gz";

std::vector<Defect> defects() {
  const auto changed = [](auto change) {
    return [change](const fs::path& folder) {
      io::LabelMap labels = testing::tumour();
      change(labels);
      labels.voxels.resize(static_cast<std::size_t>(labels.geometry.voxel_count()));
      testing::put_labels(folder / kBad, labels);
    };
  };
  return {
      {"missing", "missing: prediction, case BraTS-GLI-00001-000", false,
       [](const fs::path& folder) { fs::remove(folder / kBad); }},
      {"extra", "extra: prediction, case stranger", true,
       [](const fs::path& folder) {
         testing::put_labels(folder / "prediction/stranger.nii.gz", testing::tumour());
       }},
      {"doubled", "doubled: prediction, case BraTS-GLI-00001-000: 2 label files", false,
       [](const fs::path& folder) {
         testing::put_labels(folder / "prediction/BraTS-GLI-00001-000_seg.nii", testing::tumour());
       }},
      {"truncated", "unreadable: prediction", false,
       [](const fs::path& folder) {
         fs::resize_file(folder / kBad, fs::file_size(folder / kBad) / 2);
       }},
      {"empty", "unreadable: prediction", false,
       [](const fs::path& folder) { fs::resize_file(folder / kBad, 0); }},
      {"text", "unreadable: prediction", false,
       [](const fs::path& folder) { testing::write_text(folder / kBad, "not NIfTI"); }},
      {"pipe", "BraTS-GLI-00001-000.nii.gz: is a pipe, not a NIfTI file", false,
       [](const fs::path& folder) {
         fs::remove(folder / kBad);
         ASSERT_EQ(::mkfifo((folder / kBad).c_str(), 0600), 0);
       }},
      {"loop", "BraTS-GLI-00001-000.nii.gz: cannot be read: Too many levels of symbolic links",
       false,
       [](const fs::path& folder) {
         fs::remove(folder / kBad);
         fs::create_symlink(fs::path(kBad).filename(), folder / kBad);
       }},
      {"fractions", "not-integers: prediction", false,
       [](const fs::path& folder) { io::write_image(folder / kBad, fractions()); }},
      {"size", "size: prediction", false,
       changed([](io::LabelMap& labels) { labels.geometry.size[2] = 7; })},
      {"origin", "origin", false, changed([](io::LabelMap& labels) {
         labels.geometry.origin = {0, 3, 0};
       })},
      {"spacing", "spacing", false,
       changed([](io::LabelMap& labels) { labels.geometry.spacing[0] = 1.1; })},
      {"direction", "direction", false,
       changed([](io::LabelMap& labels) { labels.geometry.direction[0] = -1; })},
      {"labels", "labels: prediction", true,
       changed([](io::LabelMap& labels) { labels.voxels[0] = 11; })},
  };
}

TEST_F(Program, ScoresWhatItCanAndMarksTheRest) {
  for (const Defect& defect : defects()) {
    fs::remove_all(folder_.path() / "prediction");
    fs::remove_all(folder_.path() / "reference");
    fs::remove_all(folder_.path() / "s");
    write_data_set(folder_.path());
    defect.make(folder_.path());

    const Outcome strict = run("-p prediction -r reference --metrics dice -o s --strict");
    EXPECT_EQ(strict.exit_code, 1) << defect.name;
    EXPECT_THAT(strict.err, AllOf(HasSubstr(defect.words), HasSubstr("nothing was scored")))
        << defect.name;
    EXPECT_EQ(strict.out, "") << defect.name;
    EXPECT_FALSE(fs::exists(folder_.path() / "s")) << defect.name;

    const Outcome outcome = run("-p prediction -r reference --metrics dice -o s");
    EXPECT_EQ(outcome.exit_code, 3) << defect.name << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr(defect.words)) << defect.name;
    const std::string csv = read_file(folder_.path() / "s/cases.csv");
    EXPECT_THAT(csv, HasSubstr("BraTS-GLI-00000-000,WT,segmamba,dice,1\n")) << defect.name;
    EXPECT_EQ(csv.find("BraTS-GLI-00001-000,WT,segmamba,dice,nan\n") == std::string::npos,
              defect.is_scored)
        << defect.name;
    EXPECT_EQ(lines(csv), 1 + 4 * 3) << defect.name;
    EXPECT_EQ(lines(read_file(folder_.path() / "s/problems.csv")), 2) << defect.name;
    if (!defect.is_scored) {
      EXPECT_THAT(outcome.out, HasSubstr("1 of 4 cases not scored")) << defect.name;
    }
  }
}

TEST_F(Program, AllProblemsAreListedAtOnce) {
  fs::remove(folder_.path() / "prediction/BraTS-GLI-00000-000.nii.gz");
  testing::write_text(folder_.path() / "prediction/BraTS-GLI-00002-000.nii.gz", "");
  testing::put_labels(folder_.path() / "prediction/new.nii.gz", testing::tumour());
  const Outcome outcome = run("-p prediction -r reference");
  EXPECT_EQ(outcome.exit_code, 3);
  EXPECT_EQ(lines(outcome.err), 3) << outcome.err;
  EXPECT_EQ(run("-p prediction -r reference --allow-missing").exit_code, 3);
}

TEST_F(Program, IgnoresGeometryAndMissingCasesWhenAsked) {
  io::LabelMap moved = testing::tumour();
  moved.geometry.origin = {0, 10, 0};
  testing::put_labels(folder_.path() / kBad, moved);
  EXPECT_EQ(run("-p prediction -r reference").exit_code, 3);
  EXPECT_EQ(run("-p prediction -r reference --ignore-geometry --strict").exit_code, 0);
  fs::remove(folder_.path() / kBad);
  EXPECT_EQ(run("-p prediction -r reference").exit_code, 3);
  EXPECT_EQ(run("-p prediction -r reference --allow-missing --strict").exit_code, 0);
}

}  // namespace
}  // namespace segmamba::eval
