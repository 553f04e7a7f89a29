#include "segmamba/eval/evaluate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "scene.h"
#include "segmamba/core/error.h"
#include "segmamba/core/text.h"
#include "segmamba/metrics/score.h"
#include "support/temporary_folder.h"

namespace segmamba::eval {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::put_labels;
using testing::tumour;
using testing::write_data_set;
namespace fs = std::filesystem;

EvaluateOptions options_for(const fs::path& folder) {
  EvaluateOptions options;
  options.methods = {{"prediction", folder / "prediction"}};
  options.reference = folder / "reference";
  options.conventions = {metrics::find_convention("segmamba"), metrics::find_convention("medpy"),
                         metrics::find_convention("brats2023")};
  return options;
}

Evaluation run(const EvaluateOptions& options) {
  return evaluate(options, plan_evaluation(options));
}

std::string message_of(const EvaluateOptions& options) {
  try {
    plan_evaluation(options);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

// "kind method case scored?"
std::vector<std::string> problems_of(const std::vector<Problem>& problems) {
  std::vector<std::string> list;
  for (const Problem& problem : problems) {
    list.push_back(concat(to_string(problem.kind), " ",
                          problem.method.empty() ? "-" : problem.method, " ", problem.case_name,
                          problem.prevents_scoring ? " unscored" : ""));
  }
  return list;
}

// Rows that say that a case was not scored.
std::int64_t unscored_rows(const Evaluation& evaluation, const std::string& case_name) {
  return std::count_if(evaluation.rows.begin(), evaluation.rows.end(), [&](const Row& row) {
    if (!row.scored) {
      EXPECT_TRUE(std::isnan(row.value));
    }
    return !row.scored && row.case_name == case_name;
  });
}

double value_of(const Evaluation& evaluation, const std::string& case_name,
                const std::string& region, const std::string& metric) {
  for (const Row& row : evaluation.rows) {
    if (row.case_name == case_name && row.region == region && row.metric == metric) {
      return row.value;
    }
  }
  ADD_FAILURE() << "no " << metric << " of " << region;
  return 0;
}

TEST(Evaluate, RowsAreTheLibrarysScores) {
  const test::TemporaryFolder folder;
  write_data_set(folder.path());
  const EvaluateOptions options = options_for(folder.path());
  std::int64_t last_done = 0;
  const Evaluation evaluation =
      evaluate(options, plan_evaluation(options), [&](std::int64_t done, std::int64_t total) {
        EXPECT_EQ(done, ++last_done);
        EXPECT_EQ(total, 4);
      });
  EXPECT_EQ(last_done, 4);
  EXPECT_EQ(evaluation.cases.size(), 4u);

  std::size_t next = 0;
  for (int i = 0; i < 4; ++i) {
    const io::LabelMap p = tumour(i), g = tumour();
    const metrics::Grid grid{g.geometry.size, g.geometry.spacing};
    for (const auto& score : metrics::score_case({p.voxels, g.voxels, grid},
                                                 options.regions.regions, options.conventions)) {
      ASSERT_LT(next, evaluation.rows.size());
      const Row& row = evaluation.rows[next++];
      EXPECT_EQ(row.method, "prediction");
      EXPECT_EQ(row.case_name, evaluation.cases[i]);
      EXPECT_EQ(row.region, score.region);
      EXPECT_EQ(row.convention, score.convention);
      EXPECT_EQ(row.metric, score.metric);
      EXPECT_EQ(row.value, score.value);
    }
  }
  EXPECT_EQ(next, evaluation.rows.size());
  EXPECT_EQ(value_of(evaluation, "BraTS-GLI-00000-000", "ET", "dice"), 1);
  EXPECT_DOUBLE_EQ(value_of(evaluation, "BraTS-GLI-00002-000", "WT", "dice"), 4.0 / 6);
}

constexpr std::int64_t kRowsOfACase = 3 * (2 + 10 + 10);  // regions x metrics

TEST(Evaluate, MissingAndExtraPredictions) {
  const test::TemporaryFolder folder;
  write_data_set(folder.path());
  fs::remove(folder.path() / "prediction/BraTS-GLI-00002-000.nii.gz");
  put_labels(folder.path() / "prediction/extra.nii.gz", tumour());
  EvaluateOptions options = options_for(folder.path());
  Evaluation evaluation = run(options);
  EXPECT_THAT(
      problems_of(evaluation.problems),
      ElementsAre("missing prediction BraTS-GLI-00002-000 unscored", "extra prediction extra"));
  EXPECT_EQ(evaluation.cases.size(), 4u);
  EXPECT_EQ(evaluation.rows.size(), 4u * kRowsOfACase);
  EXPECT_EQ(unscored_rows(evaluation, "BraTS-GLI-00002-000"), kRowsOfACase);
  EXPECT_EQ(unscored_rows(evaluation, "BraTS-GLI-00001-000"), 0);
  options.allow_missing = true;
  evaluation = run(options);
  EXPECT_THAT(problems_of(evaluation.problems), ElementsAre("extra prediction extra"));
  EXPECT_THAT(evaluation.notices, ElementsAre(HasSubstr("1 of 4 cases without a prediction")));
  EXPECT_EQ(unscored_rows(evaluation, "BraTS-GLI-00002-000"), kRowsOfACase);
}

TEST(Evaluate, DoubledCases) {
  const test::TemporaryFolder folder;
  write_data_set(folder.path());
  put_labels(folder.path() / "prediction/BraTS-GLI-00001-000_pred.nii.gz", tumour());
  put_labels(folder.path() / "reference/BraTS-GLI-00002-000/seg.nii.gz", tumour());
  const Evaluation evaluation = run(options_for(folder.path()));
  EXPECT_THAT(problems_of(evaluation.problems),
              ElementsAre("doubled - BraTS-GLI-00002-000 unscored",
                          "doubled prediction BraTS-GLI-00001-000 unscored"));
  EXPECT_THAT(evaluation.problems[1].text,
              AllOf(HasSubstr("00001-000.nii.gz"), HasSubstr("00001-000_pred.nii.gz")));
  EXPECT_EQ(unscored_rows(evaluation, "BraTS-GLI-00001-000"), kRowsOfACase);
  EXPECT_EQ(unscored_rows(evaluation, "BraTS-GLI-00002-000"), kRowsOfACase);
}

TEST(Evaluate, OnlyTheCasesAskedFor) {
  const test::TemporaryFolder folder;
  write_data_set(folder.path());
  fs::remove(folder.path() / "prediction/BraTS-GLI-00002-000.nii.gz");
  EvaluateOptions options = options_for(folder.path());
  options.cases = {"BraTS-GLI-00001-000", "BraTS-GLI-00003-000"};
  const Evaluation evaluation = run(options);
  EXPECT_THAT(evaluation.cases, ElementsAre("BraTS-GLI-00001-000", "BraTS-GLI-00003-000"));
  EXPECT_TRUE(evaluation.problems.empty());
  EXPECT_TRUE(evaluation.notices.empty());
  options.cases.emplace_back("BraTS-GLI-00002-000");
  EXPECT_THAT(problems_of(plan_evaluation(options).problems),
              ElementsAre("missing prediction BraTS-GLI-00002-000 unscored"));
  options.cases = {"BraTS-GLI-00001-000", "absent"};
  EXPECT_THAT(message_of(options), HasSubstr("1 of the cases asked for have no reference"));
}

TEST(Evaluate, GridsMustAgree) {
  const test::TemporaryFolder folder;
  write_data_set(folder.path());
  io::LabelMap moved = tumour(1);
  moved.geometry.origin = {0, 10, 0};
  put_labels(folder.path() / "prediction/BraTS-GLI-00001-000.nii.gz", moved);
  EvaluateOptions options = options_for(folder.path());
  Plan plan = plan_evaluation(options);
  EXPECT_THAT(problems_of(plan.problems),
              ElementsAre("geometry prediction BraTS-GLI-00001-000 unscored"));
  EXPECT_THAT(plan.problems[0].text, AllOf(HasSubstr("are not on one grid"), HasSubstr("origin"),
                                           HasSubstr("--ignore-geometry")));
  EXPECT_EQ(plan.pairs.size(), 3u);
  options.ignore_geometry = true;
  plan = plan_evaluation(options);
  EXPECT_TRUE(plan.problems.empty());
  EXPECT_THAT(plan.notices,
              ElementsAre(AllOf(HasSubstr("ignored in 1 case"), HasSubstr("origin"))));
  EXPECT_DOUBLE_EQ(value_of(evaluate(options, plan), "BraTS-GLI-00001-000", "WT", "dice"), 5.0 / 6);

  io::LabelMap cropped = tumour();
  cropped.geometry.size[2] = 7;
  cropped.voxels.resize(static_cast<std::size_t>(cropped.geometry.voxel_count()));
  put_labels(folder.path() / "prediction/BraTS-GLI-00001-000.nii.gz", cropped);
  plan = plan_evaluation(options);
  EXPECT_THAT(problems_of(plan.problems),
              ElementsAre("size prediction BraTS-GLI-00001-000 unscored"));
  EXPECT_THAT(plan.problems[0].text, AllOf(HasSubstr("12x10x7"), HasSubstr("12x10x8")));
}

TEST(Evaluate, FilesThatHoldNoLabels) {
  const test::TemporaryFolder folder;
  write_data_set(folder.path());
  testing::write_text(folder.path() / "prediction/BraTS-GLI-00001-000.nii.gz", "not NIfTI");
  const io::LabelMap labels = tumour();
  io::Image fractions{labels.geometry, {labels.voxels.begin(), labels.voxels.end()}};
  fractions.voxels[3] = 0.5f;
  io::write_image(folder.path() / "prediction/BraTS-GLI-00002-000.nii.gz", fractions);
  fractions.voxels[3] = 300;
  io::write_image(folder.path() / "reference/BraTS-GLI-00003-000/BraTS-GLI-00003-000-seg.nii.gz",
                  fractions);
  const Evaluation evaluation = run(options_for(folder.path()));
  EXPECT_THAT(problems_of(evaluation.problems),
              ElementsAre("not-integers - BraTS-GLI-00003-000 unscored",
                          "unreadable prediction BraTS-GLI-00001-000 unscored",
                          "not-integers prediction BraTS-GLI-00002-000 unscored"));
  EXPECT_THAT(evaluation.problems[2].text, HasSubstr("0.5"));
  EXPECT_EQ(value_of(evaluation, "BraTS-GLI-00000-000", "ET", "dice"), 1);
}

TEST(Evaluate, LabelsOutsideTheMapAreScoredAllTheSame) {
  const test::TemporaryFolder folder;
  write_data_set(folder.path());
  io::LabelMap odd = tumour();
  odd.voxels[0] = 9;
  odd.voxels[1] = odd.voxels[2] = 7;
  put_labels(folder.path() / "prediction/BraTS-GLI-00001-000.nii.gz", odd);
  EvaluateOptions options = options_for(folder.path());
  const Evaluation evaluation = run(options);
  EXPECT_THAT(problems_of(evaluation.problems),
              ElementsAre("labels prediction BraTS-GLI-00001-000"));
  EXPECT_THAT(evaluation.problems[0].text, HasSubstr("labels 7, 9 (3 voxels)"));
  EXPECT_EQ(value_of(evaluation, "BraTS-GLI-00001-000", "ET", "dice"), 1);
  options.regions.known_labels.clear();
  EXPECT_TRUE(plan_evaluation(options).problems.empty());
}

TEST(Evaluate, EachLabelIsARegion) {
  const test::TemporaryFolder folder;
  io::LabelMap odd = tumour();
  odd.voxels[0] = 9;
  put_labels(folder.path() / "prediction/a.nii.gz", odd);
  put_labels(folder.path() / "reference/a.nii.gz", tumour());
  EvaluateOptions options = options_for(folder.path());
  options.regions.each_label = true;
  const Evaluation evaluation = run(options);
  std::vector<std::string> names;
  for (const auto& region : evaluation.regions) names.push_back(region.name);
  EXPECT_THAT(names, ElementsAre("1", "2", "3", "9"));
  EXPECT_EQ(value_of(evaluation, "a", "2", "dice"), 1);
  EXPECT_EQ(value_of(evaluation, "a", "9", "dice"), 0);
  EXPECT_TRUE(evaluation.problems.empty());
}

TEST(Evaluate, AFileThatChangesInBetweenIsAProblem) {
  const test::TemporaryFolder folder;
  write_data_set(folder.path());
  const EvaluateOptions options = options_for(folder.path());
  const Plan plan = plan_evaluation(options);
  fs::remove(folder.path() / "prediction/BraTS-GLI-00001-000.nii.gz");
  const Evaluation evaluation = evaluate(options, plan);
  EXPECT_THAT(problems_of(evaluation.problems),
              ElementsAre("unreadable prediction BraTS-GLI-00001-000 unscored"));
  EXPECT_EQ(unscored_rows(evaluation, "BraTS-GLI-00001-000"), kRowsOfACase);
}

TEST(Evaluate, VolumesAndPictures) {
  const test::TemporaryFolder folder;
  write_data_set(folder.path());
  EvaluateOptions options = options_for(folder.path());
  options.pictures = true;
  const Evaluation evaluation = run(options);
  // 6x6x4 voxels of 2 mm^3, 2x4x2 of them enhancing.
  EXPECT_DOUBLE_EQ(evaluation.reference_ml.at("BraTS-GLI-00001-000").at("WT"), 0.288);
  EXPECT_DOUBLE_EQ(evaluation.reference_ml.at("BraTS-GLI-00001-000").at("ET"), 0.032);
  ASSERT_EQ(evaluation.pictures.size(), 4u);
  EXPECT_EQ(evaluation.pictures[2].case_name, "BraTS-GLI-00002-000");
  EXPECT_EQ(evaluation.pictures[2].png.substr(1, 3), "PNG");
}

class LabelFourTest : public ::testing::Test {
 protected:
  LabelFourTest() {
    io::LabelMap old = tumour();
    std::replace(old.voxels.begin(), old.voxels.end(), std::uint8_t{3}, std::uint8_t{4});
    put_labels(folder_.path() / "prediction/a.nii.gz", old);
    put_labels(folder_.path() / "reference/a.nii.gz", tumour());
    options_ = options_for(folder_.path());
  }
  double et_dice() {
    evaluation_ = run(options_);
    return value_of(evaluation_, "a", "ET", "dice");
  }
  test::TemporaryFolder folder_;
  EvaluateOptions options_;
  Evaluation evaluation_;
};

TEST_F(LabelFourTest, IsEnhancingInFilesOfOlderReleases) {
  EXPECT_EQ(et_dice(), 1);
  ASSERT_EQ(evaluation_.notices.size(), 1u);
  EXPECT_THAT(evaluation_.notices[0], HasSubstr("label 4 is read as enhancing tumour (3)"));
}

TEST_F(LabelFourTest, IsTheResectionCavityOfOneConventionOnly) {
  options_.conventions.push_back(metrics::find_convention("brats2024"));
  EXPECT_EQ(et_dice(), 1);
  for (const Row& row : evaluation_.rows) {
    if (row.region == "ET" && row.metric == "dice") {
      EXPECT_EQ(row.value, row.convention == "brats2024" ? 0 : 1) << row.convention;
    }
  }
  ASSERT_EQ(evaluation_.notices.size(), 1u);
  EXPECT_THAT(evaluation_.notices[0],
              AllOf(HasSubstr("read as enhancing tumour"),
                    HasSubstr("brats2024 takes it as the resection cavity")));
  // The order of the rows is that of the conventions, whichever way they read the labels.
  std::vector<std::string> order;
  for (const Row& row : evaluation_.rows) {
    if (row.region == "WT" && row.metric == "dice") order.push_back(row.convention);
  }
  EXPECT_THAT(order, ElementsAre("segmamba", "medpy", "brats2023", "brats2024"));
}

TEST_F(LabelFourTest, StaysWhereOtherRegionsAreScored) {
  options_.regions.regions = {{"ET", {3}}, {"organ", {4}}};
  EXPECT_EQ(et_dice(), 0);
  EXPECT_TRUE(evaluation_.notices.empty());
}

TEST_F(LabelFourTest, IsAsTheOptionSays) {
  options_.label_four = LabelFour::kKeep;
  EXPECT_EQ(et_dice(), 0);
  options_.label_four = LabelFour::kEnhancing;
  EXPECT_EQ(et_dice(), 1);
}

TEST_F(LabelFourTest, BesideLabelThreeIsNotScoredAsEnhancing) {
  io::LabelMap both = tumour();
  both.voxels[0] = 4;
  put_labels(folder_.path() / "prediction/a.nii.gz", both);
  EXPECT_EQ(et_dice(), 1);
  ASSERT_EQ(evaluation_.notices.size(), 1u);
  EXPECT_THAT(evaluation_.notices[0], HasSubstr("labels 3 and 4 both occur"));
}

TEST(Evaluate, SeveralMethods) {
  const test::TemporaryFolder folder;
  write_data_set(folder.path());
  EvaluateOptions options = options_for(folder.path());
  options.methods = {{"A", folder.path() / "prediction"}, {"B", folder.path() / "reference"}};
  options.metrics = {"dice"};
  const Evaluation evaluation = run(options);
  EXPECT_EQ(evaluation.rows.size(), 2u * 4 * 3 * 3);
  for (const Row& row : evaluation.rows) {
    const bool is_perfect = row.method == "B" || row.case_name == "BraTS-GLI-00000-000";
    EXPECT_EQ(row.value == 1, is_perfect) << row.method << " " << row.case_name;
  }
}

}  // namespace
}  // namespace segmamba::eval
