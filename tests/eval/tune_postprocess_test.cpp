#include "segmamba/eval/tune_postprocess.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cstdlib>
#include <functional>

#include "scene.h"
#include "segmamba/core/error.h"
#include "segmamba/core/files.h"
#include "segmamba/core/parallel.h"
#include "segmamba/core/text.h"
#include "support/error_of.h"
#include "support/temporary_folder.h"
#include "volume_steps.h"

namespace segmamba::eval {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
namespace fs = std::filesystem;

constexpr std::uint8_t kNecrosis = 1, kOedema = 2, kEnhancing = 3;

TEST(VolumeSteps, LieBetweenNeighbours) {
  EXPECT_THAT(volume_steps({}), IsEmpty());
  EXPECT_THAT(volume_steps({0.5, 0.5, 0.5 * (1 + 1e-12)}), IsEmpty());
  EXPECT_THAT(volume_steps({2, 1, 8, 1}), ElementsAre(1.4, 4));
  EXPECT_THAT(volume_steps({0.012, 0.013}), ElementsAre(0.0125));
}

TEST(VolumeSteps, AreFewAndHoldTheWidestGaps) {
  std::vector<double> volumes;
  for (int i = 1; i <= 1000; ++i) volumes.push_back(i * 0.001);
  for (int i = 0; i < 100; ++i) volumes.push_back(30 + i);
  const auto steps = volume_steps(volumes);
  EXPECT_LE(steps.size(), 24u);
  EXPECT_TRUE(std::is_sorted(steps.begin(), steps.end()));
  EXPECT_THAT(steps, ::testing::Contains(AllOf(::testing::Gt(1), ::testing::Lt(30))));
  EXPECT_THAT(steps, ::testing::Contains(AllOf(::testing::Gt(0.001), ::testing::Lt(0.002))));
}

struct Box {
  std::array<std::int64_t, 3> low, high;
};

void paint(io::LabelMap& map, const Box& box, std::uint8_t label) {
  const auto& size = map.geometry.size;
  for (std::int64_t z = box.low[2]; z < box.high[2]; ++z) {
    for (std::int64_t y = box.low[1]; y < box.high[1]; ++y) {
      for (std::int64_t x = box.low[0]; x < box.high[0]; ++x) {
        map.voxels[(z * size[1] + y) * size[0] + x] = label;
      }
    }
  }
}

// A voxel is 1 mm^3. Case i has a tumour of 512 voxels with a core of 96 of necrosis and 32 of
// enhancing tumour, and every other case a second lesion of 60 voxels.
io::LabelMap reference_of(int i) {
  io::Geometry geometry;
  geometry.size = {24, 20, 12};
  io::LabelMap map{geometry, {}};
  map.voxels.resize(static_cast<std::size_t>(geometry.voxel_count()));
  paint(map, {{2, 2, 2}, {10, 10, 10}}, kOedema);
  paint(map, {{4, 4, 4}, {8, 8, 10}}, kNecrosis);
  paint(map, {{4, 4, 4}, {6, 8, 8}}, kEnhancing);
  if (i % 2 == 1) paint(map, {{14, 2, 2}, {18, 7, 5}}, kOedema);
  return map;
}

class TunePostprocess : public ::testing::Test {
 protected:
  // `change` makes the prediction, and may change the reference.
  using Change = std::function<void(int i, io::LabelMap& prediction, io::LabelMap& reference)>;
  void write_cases(int count, const Change& change) {
    for (int i = 0; i < count; ++i) {
      io::LabelMap reference = reference_of(i), prediction = reference;
      change(i, prediction, reference);
      const std::string name = concat("case", 100 + i, ".nii");
      testing::put_labels(folder_.path() / "reference" / name, reference);
      testing::put_labels(folder_.path() / "prediction" / name, prediction);
    }
  }
  EvaluateOptions options(const std::string& convention = "medpy") const {
    EvaluateOptions options;
    options.methods = {{"prediction", folder_.path() / "prediction"}};
    options.reference = folder_.path() / "reference";
    options.conventions = {metrics::find_convention(convention)};
    return options;
  }
  static Tuning tune(const EvaluateOptions& options) {
    return tune_postprocess(options, plan_evaluation(options), {.resamples = 1000});
  }
  static std::vector<std::string> names(const Tuning& tuning) {
    std::vector<std::string> names;
    for (const TunedRule& rule : tuning.rules) {
      names.push_back(rule.rule.substr(0, rule.rule.find('=')));
    }
    return names;
  }
  static double threshold(const std::string& entry) {
    return std::strtod(entry.c_str() + entry.find('=') + 1, nullptr);
  }
  test::TemporaryFolder folder_;
};

void nothing(int, io::LabelMap&, io::LabelMap&) {}

// Two false lesions of 2 to 9 voxels beside the true ones of 60 and more.
void add_specks(int i, io::LabelMap& prediction, io::LabelMap&) {
  paint(prediction, {{12, 14, 2}, {14 + i % 3, 16, 3}}, kOedema);
  paint(prediction, {{20, 14, 8}, {22, 15, 9 + i % 2}}, kOedema);
}

TEST_F(TunePostprocess, FindsTheThresholdBetweenFalseAndTrueLesions) {
  write_cases(12, add_specks);
  const Tuning tuning = tune(options());
  EXPECT_THAT(names(tuning), ElementsAre("remove_below_ml: WT"));
  ASSERT_EQ(tuning.config.remove_below_ml.size(), 1u);
  EXPECT_GT(threshold(tuning.config.remove_below_ml[0]), 0.008);
  EXPECT_LT(threshold(tuning.config.remove_below_ml[0]), 0.060);
  EXPECT_EQ(tuning.rules[0].rule, "remove_below_ml: " + tuning.config.remove_below_ml[0]);
  EXPECT_EQ(tuning.rules[0].better, 12);
  EXPECT_EQ(tuning.rules[0].worse, 0);
  EXPECT_GT(tuning.rules[0].gain_ci95.low, 0);
  EXPECT_LT(tuning.regions[0].before, 1);
  EXPECT_EQ(tuning.regions[0].region, "WT");
  for (const RegionScore& region : tuning.regions) EXPECT_EQ(region.after, 1);
  // The gain of WT is shared by three regions.
  EXPECT_NEAR(tuning.rules[0].gain, (1 - tuning.regions[0].before) / 3, 1e-12);
}

TEST_F(TunePostprocess, ScoresAreThoseOfTheConvention) {
  write_cases(6, add_specks);
  const EvaluateOptions asked = options("brats2023");
  const Plan plan = plan_evaluation(asked);
  const Evaluation evaluation = evaluate(asked, plan);
  const Tuning tuning = tune_postprocess(asked, plan);
  EXPECT_EQ(tuning.metric, "lesion_dice");
  for (const RegionScore& region : tuning.regions) {
    std::vector<double> values;
    for (const Row& row : evaluation.rows) {
      if (row.region == region.region && row.metric == "lesion_dice") values.push_back(row.value);
    }
    EXPECT_DOUBLE_EQ(region.before, mean(values));
  }
}

TEST_F(TunePostprocess, KeepsNothingWhereNothingHelps) {
  write_cases(12, [](int i, io::LabelMap& prediction, io::LabelMap&) {
    paint(prediction, {{2, 2, 2}, {3 + i % 2, 10, 10}}, 0);  // missed
  });
  const Tuning tuning = tune(options());
  EXPECT_THAT(tuning.rules, IsEmpty());
  EXPECT_EQ(post::to_yaml(tuning.config), post::to_yaml({}));
  EXPECT_LT(tuning.regions[0].before, 1);
  EXPECT_EQ(tuning.regions[0].before, tuning.regions[0].after);
  EXPECT_THAT(tuning_text(tuning), HasSubstr("no rule helps: nothing is switched on"));
}

TEST_F(TunePostprocess, PerfectPredictionsNeedNoRule) {
  write_cases(6, nothing);
  const Tuning tuning = tune(options());
  EXPECT_THAT(tuning.rules, IsEmpty());
  EXPECT_EQ(tuning.next_best, std::nullopt);
}

// What helps one case only is not learnt from the others.
TEST_F(TunePostprocess, OneOddCaseMakesNoRule) {
  write_cases(12, [](int i, io::LabelMap& prediction, io::LabelMap& reference) {
    if (i == 5) add_specks(i, prediction, reference);
  });
  EXPECT_THAT(tune(options()).rules, IsEmpty());
}

// Enhancing tumour in specks: of 40 voxels where it is true, of 12 where there is none.
TEST_F(TunePostprocess, FindsTheVolumeBelowWhichARegionIsFalse) {
  write_cases(15, [](int i, io::LabelMap& prediction, io::LabelMap& reference) {
    paint(reference, {{4, 4, 4}, {6, 8, 8}}, kNecrosis);
    for (std::int64_t z = 2; z < 10; z += 2) {
      for (std::int64_t x = 2; x < 10; x += 2) {
        const Box speck = {{x, 2, z}, {x + 1, 4 + (x / 2) % 2, z + 1}};
        if (i % 3 != 0) paint(reference, speck, kEnhancing);
      }
    }
    prediction = reference;
    if (i % 3 != 0) return;
    for (std::int64_t x = 2; x < 10; x += 2)
      paint(prediction, {{x, 2, 2}, {x + 1, 5, 3}}, kEnhancing);
  });
  const Tuning tuning = tune(options());
  ASSERT_THAT(names(tuning), ElementsAre("replace_below_ml: ET"));
  EXPECT_THAT(tuning.rules[0].rule, HasSubstr("->necrosis"));
  EXPECT_GT(threshold(tuning.config.replace_below_ml[0]), 0.012);
  EXPECT_LT(threshold(tuning.config.replace_below_ml[0]), 0.040);
  EXPECT_EQ(tuning.regions[2].after, 1);
  EXPECT_FALSE(tuning.absent_scores_zero);
}

// The published script scores a region that is rightly absent as 0.
TEST_F(TunePostprocess, TellsWhereRemovingGainsNothing) {
  write_cases(6, [](int i, io::LabelMap& prediction, io::LabelMap& reference) {
    paint(reference, {{4, 4, 4}, {6, 8, 8}}, kNecrosis);
    prediction = reference;
    paint(prediction, {{4, 4, 4}, {6 + i % 2, 5, 5}}, kEnhancing);
  });
  const Tuning tuning = tune(options("segmamba"));
  EXPECT_TRUE(tuning.absent_scores_zero);
  EXPECT_THAT(tuning.rules, IsEmpty());
  EXPECT_THAT(tuning_text(tuning), HasSubstr("rightly absent as 0"));
  // nan of the tool counts as right where the region is absent on both sides.
  EXPECT_THAT(names(tune(options("monai"))), Not(IsEmpty()));
}

TEST_F(TunePostprocess, SeveralRulesAreFoundTogether) {
  write_cases(12, [](int i, io::LabelMap& prediction, io::LabelMap& reference) {
    add_specks(i, prediction, reference);
    paint(prediction, {{3, 8, 3}, {5, 9, 5}}, 0);  // a hole
  });
  const Tuning tuning = tune(options());
  EXPECT_THAT(names(tuning), ElementsAre("fill_holes: WT", "remove_below_ml: WT"));
  for (const RegionScore& region : tuning.regions) EXPECT_EQ(region.after, 1);
}

TEST_F(TunePostprocess, OtherRegionsAreWrittenAsNumbers) {
  write_cases(8, add_specks);
  EvaluateOptions asked = options();
  asked.regions.regions = {{"organ", {1, 2, 3}}, {"tumour", {1, 3}}};
  const Tuning tuning = tune(asked);
  ASSERT_THAT(names(tuning), ElementsAre("remove_below_ml: 1+2+3"));
  EXPECT_THAT(post::make_rules(tuning.config, {"background", "a", "b", "c"}).at(0).region.labels,
              ElementsAre(1, 2, 3));
}

TEST_F(TunePostprocess, FileDoesWhatWasFound) {
  write_cases(8, add_specks);
  const Tuning tuning = tune(options());
  const fs::path path = folder_.path() / "post.yaml";
  write_file_atomically(path, tuning_yaml(tuning));
  const auto rules = post::make_rules(post::read_postprocess(path),
                                      {"background", "necrosis", "oedema", "enhancing"});
  for (int i = 0; i < 8; ++i) {
    const std::string name = concat("case", 100 + i, ".nii");
    auto labels = io::read_labels(folder_.path() / "prediction" / name);
    post::postprocess(labels.voxels, {labels.geometry.size, labels.geometry.spacing}, rules);
    EXPECT_EQ(labels.voxels, io::read_labels(folder_.path() / "reference" / name).voxels);
  }
  EXPECT_THAT(read_file(path), AllOf(HasSubstr("# Post-processing by dice of medpy (%), 8 cases"),
                                     HasSubstr("only 8 cases: thresholds are uncertain")));
}

TEST_F(TunePostprocess, DoesNotDependOnTheNumberOfThreads) {
  write_cases(9, add_specks);
  std::vector<std::string> files;
  const int threads = thread_count();
  for (const int count : {1, 3}) {
    set_thread_count(count);
    files.push_back(tuning_yaml(tune(options("brats2023"))));
  }
  set_thread_count(threads);
  EXPECT_EQ(files[0], files[1]);
}

TEST_F(TunePostprocess, FewCasesAreRefused) {
  write_cases(1, add_specks);
  EXPECT_EQ(
      test::error_of([&] { tune(options()); }),
      "--tune-postprocess needs cases of at least 5 patients, thresholds of fewer say nothing "
      "about others; got 1");
}

TEST_F(TunePostprocess, VisitsOfAPatientCountOnce) {
  for (int i = 0; i < 8; ++i) {
    const std::string name = concat("BraTS-GLI-0000", i / 2, "-00", i % 2, ".nii");
    testing::put_labels(folder_.path() / "reference" / name, reference_of(i));
    testing::put_labels(folder_.path() / "prediction" / name, reference_of(i));
  }
  EXPECT_THAT(test::error_of([&] { tune(options()); }), HasSubstr("got 4"));
}

TEST_F(TunePostprocess, TunesForOneShareOfOneMethod) {
  write_cases(5, nothing);
  EvaluateOptions asked = options();
  asked.metrics = {"hd95"};
  EXPECT_THROW(check_tuning(asked), UsageError);
  asked.metrics = {"dice", "iou"};
  EXPECT_THROW(check_tuning(asked), UsageError);
  asked.metrics = {"dice"};
  EXPECT_NO_THROW(check_tuning(asked));
  asked.conventions.push_back(metrics::find_convention("brats2023"));
  EXPECT_THROW(check_tuning(asked), UsageError);
  asked = options();
  asked.methods.push_back(asked.methods.front());
  EXPECT_THROW(check_tuning(asked), UsageError);
}

}  // namespace
}  // namespace segmamba::eval
