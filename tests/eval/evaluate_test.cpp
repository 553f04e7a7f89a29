#include "segmamba/eval/evaluate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "scene.h"
#include "segmamba/core/error.h"
#include "segmamba/metrics/score.h"
#include "support/temporary_folder.h"

namespace segmamba::eval {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
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

std::string message_of(const EvaluateOptions& options) {
  try {
    evaluate(options);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
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
  const Evaluation evaluation = evaluate(options, [&](std::int64_t done, std::int64_t total) {
    EXPECT_EQ(done, ++last_done);
    EXPECT_EQ(total, 4);
  });
  EXPECT_EQ(last_done, 4);
  EXPECT_EQ(evaluation.cases.size(), 4u);

  std::size_t next = 0;
  for (int i = 0; i < 4; ++i) {
    const io::LabelMap p = tumour(i), g = tumour();
    const metrics::Grid grid{g.geometry.size, g.geometry.spacing};
    for (const auto& score :
         metrics::score_case({p.voxels, g.voxels, grid}, options.regions, options.conventions)) {
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

TEST(Evaluate, MissingPredictionsAreAnErrorUnlessAllowed) {
  const test::TemporaryFolder folder;
  write_data_set(folder.path());
  fs::remove(folder.path() / "prediction/BraTS-GLI-00002-000.nii.gz");
  put_labels(folder.path() / "prediction/extra.nii.gz", tumour());
  EvaluateOptions options = options_for(folder.path());
  EXPECT_THAT(message_of(options),
              AllOf(HasSubstr("1 of 4 reference cases have no prediction"),
                    HasSubstr("BraTS-GLI-00002-000"), HasSubstr("--allow-missing")));
  options.allow_missing = true;
  const Evaluation evaluation = evaluate(options);
  EXPECT_EQ(evaluation.cases.size(), 3u);
  EXPECT_THAT(evaluation.missing, ElementsAre("prediction: BraTS-GLI-00002-000"));
  EXPECT_THAT(evaluation.without_reference, ElementsAre("prediction: extra"));
  EXPECT_THAT(evaluation.notices,
              ElementsAre("1 predictions have no reference: prediction: extra"));
}

TEST(Evaluate, OnlyTheCasesAskedFor) {
  const test::TemporaryFolder folder;
  write_data_set(folder.path());
  fs::remove(folder.path() / "prediction/BraTS-GLI-00002-000.nii.gz");
  EvaluateOptions options = options_for(folder.path());
  options.cases = {"BraTS-GLI-00001-000", "BraTS-GLI-00003-000"};
  const Evaluation evaluation = evaluate(options);
  EXPECT_THAT(evaluation.cases, ElementsAre("BraTS-GLI-00001-000", "BraTS-GLI-00003-000"));
  EXPECT_TRUE(evaluation.missing.empty());
  EXPECT_TRUE(evaluation.notices.empty());
  options.cases.emplace_back("BraTS-GLI-00002-000");
  EXPECT_THAT(message_of(options), HasSubstr("1 of 3 reference cases have no prediction"));
  options.cases = {"BraTS-GLI-00001-000", "absent"};
  EXPECT_THAT(message_of(options), HasSubstr("1 of the cases asked for have no reference"));
}

TEST(Evaluate, NothingInCommonIsAnError) {
  const test::TemporaryFolder folder;
  put_labels(folder.path() / "prediction/a.nii.gz", tumour());
  put_labels(folder.path() / "reference/b.nii.gz", tumour());
  EvaluateOptions options = options_for(folder.path());
  options.allow_missing = true;
  EXPECT_THAT(message_of(options), HasSubstr("no case has both a prediction and a reference"));
}

TEST(Evaluate, GridsMustAgree) {
  const test::TemporaryFolder folder;
  write_data_set(folder.path());
  io::LabelMap moved = tumour(1);
  moved.geometry.origin = {0, 10, 0};
  put_labels(folder.path() / "prediction/BraTS-GLI-00001-000.nii.gz", moved);
  EvaluateOptions options = options_for(folder.path());
  EXPECT_THAT(message_of(options),
              AllOf(HasSubstr("case BraTS-GLI-00001-000: "), HasSubstr("are not on one grid"),
                    HasSubstr("origin"), HasSubstr("--ignore-geometry")));
  options.ignore_geometry = true;
  EXPECT_DOUBLE_EQ(value_of(evaluate(options), "BraTS-GLI-00001-000", "WT", "dice"), 5.0 / 6);

  io::LabelMap cropped = tumour();
  cropped.geometry.size[2] = 7;
  cropped.voxels.resize(static_cast<std::size_t>(cropped.geometry.voxel_count()));
  put_labels(folder.path() / "prediction/BraTS-GLI-00001-000.nii.gz", cropped);
  EXPECT_THAT(message_of(options),
              AllOf(HasSubstr("size 12x10x7 and 12x10x8"), Not(HasSubstr("--ignore-geometry"))));
}

TEST(Evaluate, DamagedFilesAreNamed) {
  const test::TemporaryFolder folder;
  write_data_set(folder.path());
  testing::write_text(folder.path() / "prediction/BraTS-GLI-00001-000.nii.gz", "not NIfTI");
  testing::write_text(folder.path() / "prediction/BraTS-GLI-00003-000.nii.gz", "not NIfTI");
  EXPECT_THAT(message_of(options_for(folder.path())),
              AllOf(HasSubstr("BraTS-GLI-00001-000.nii.gz"),
                    HasSubstr("other cases failed too: BraTS-GLI-00003-000")));
}

TEST(Evaluate, AnUnknownMetricIsAUsageError) {
  const test::TemporaryFolder folder;
  write_data_set(folder.path());
  EvaluateOptions options = options_for(folder.path());
  options.metrics = {"hd9"};
  EXPECT_THROW(evaluate(options), UsageError);
  EXPECT_THAT(message_of(options), HasSubstr("did you mean 'hd95'?"));
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
    evaluation_ = evaluate(options_);
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

TEST_F(LabelFourTest, StaysWhereItIsTheResectionCavity) {
  options_.conventions.push_back(metrics::find_convention("brats2024"));
  EXPECT_EQ(et_dice(), 0);
  ASSERT_EQ(evaluation_.notices.size(), 1u);
  EXPECT_THAT(evaluation_.notices[0], HasSubstr("taken as the resection cavity"));
}

TEST_F(LabelFourTest, StaysWhereOtherRegionsAreScored) {
  options_.regions = {{"ET", {3}}, {"organ", {4}}};
  EXPECT_EQ(et_dice(), 0);
  EXPECT_TRUE(evaluation_.notices.empty());
}

TEST_F(LabelFourTest, LabelsAboveAreReported) {
  io::LabelMap odd = tumour();
  odd.voxels[0] = 9;
  put_labels(folder_.path() / "prediction/a.nii.gz", odd);
  EXPECT_EQ(et_dice(), 1);
  ASSERT_EQ(evaluation_.notices.size(), 1u);
  EXPECT_THAT(evaluation_.notices[0], AllOf(HasSubstr("labels above 4 belong to no region"),
                                            HasSubstr("prediction/a.nii.gz")));
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
  const auto summaries = summarise(evaluate(options).rows);
  for (const Summary& summary : summaries) {
    EXPECT_EQ(summary.cases, 4);
    EXPECT_EQ(summary.mean == 1, summary.method == "B") << summary.method;
  }
  EXPECT_EQ(summaries.size(), 2u * 3u * 3u);
}

}  // namespace
}  // namespace segmamba::eval
