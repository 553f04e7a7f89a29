#include "segmamba/metrics/convention.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "segmamba/core/error.h"
#include "segmamba/core/text.h"
#include "segmamba/metrics/score.h"

namespace segmamba::metrics {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(Convention, NamesAreUniqueAndFound) {
  std::set<std::string> names;
  for (const Convention& convention : conventions()) {
    EXPECT_TRUE(names.insert(convention.name).second) << convention.name;
    EXPECT_EQ(&find_convention(convention.name), &convention);
    std::set<std::string> metrics;
    for (const MetricRule& rule : convention.metrics) {
      EXPECT_TRUE(metrics.insert(rule.name).second) << convention.name << " " << rule.name;
    }
  }
}

TEST(Convention, AnUnknownNameIsAUsageErrorWithTheNearest) {
  try {
    find_convention("brats2032");
    FAIL();
  } catch (const UsageError& error) {
    EXPECT_THAT(error.what(),
                HasSubstr("no convention 'brats2032' (did you mean 'brats2023'?); known: "));
  }
}

TEST(Convention, ExplainsWhatItCounts) {
  const std::string published = explain(find_convention("segmamba"));
  EXPECT_THAT(published, HasSubstr("in voxels, the spacing of the header is ignored"));
  EXPECT_THAT(published, HasSubstr("pooled"));
  EXPECT_THAT(published, HasSubstr("hd95  both 50, prediction 50, reference 50"));
  EXPECT_THAT(published, HasSubstr("beyond the grid counts as outside"));
  const std::string lesions = explain(find_convention("brats2023"));
  EXPECT_THAT(lesions, HasSubstr("3-fold dilations"));
  EXPECT_THAT(lesions, HasSubstr("at most 50 mm3 are not scored"));
  EXPECT_THAT(lesions, HasSubstr("Dice 0 and HD95 374"));
  EXPECT_THAT(explain(find_convention("captk")), HasSubstr("prediction the grid's diagonal"));
  EXPECT_THAT(explain(find_convention("medpy")), HasSubstr("both 1, prediction 0, reference 0"));
}

// The numbers for empty masks in the text are those that the scores give.
TEST(Convention, ExplainsTheValuesThatAreCounted) {
  constexpr Grid kGrid{{6, 5, 4}, {1, 1, 1}};
  const std::vector<std::uint8_t> empty(120);
  std::vector<std::uint8_t> full(120);
  std::fill(full.begin() + 30, full.begin() + 90, 3);  // too many for brats2024 to erase
  const Region region{"ET", {3}};
  const auto number = [](double value) {
    if (value == std::numeric_limits<double>::max()) return std::string("the largest double");
    if (value == std::sqrt(36.0 + 25 + 16)) return std::string("the grid's diagonal");
    return format_double(value);
  };
  for (const Convention& convention : conventions()) {
    const std::string text = explain(convention);
    const auto both = score_case({empty, empty, kGrid}, {region}, {convention});
    const auto prediction = score_case({empty, full, kGrid}, {region}, {convention});
    const auto reference = score_case({full, empty, kGrid}, {region}, {convention});
    for (std::size_t i = 0; i < both.size(); ++i) {
      const std::size_t line = text.find("\n    " + both[i].metric + " ");
      if (line == std::string::npos) continue;
      const std::string explained = text.substr(line + 1, text.find('\n', line + 1) - line - 1);
      const bool depends_on_the_grid =
          starts_with(both[i].metric, "specificity") || both[i].metric == "false_positive_error";
      const std::string in_reference =
          depends_on_the_grid ? "by its formula" : number(reference[i].value);
      EXPECT_THAT(explained, ::testing::EndsWith(
                                 concat(" both ", number(both[i].value), ", prediction ",
                                        number(prediction[i].value), ", reference ", in_reference)))
          << convention.name;
    }
  }
}

TEST(Convention, SaysWhereAToolIsDefective) {
  EXPECT_THAT(explain(find_convention("brats2024")),
              AllOf(HasSubstr("Known defect"), HasSubstr("hd95_of_masks")));
  EXPECT_THAT(explain(find_convention("captk")),
              AllOf(HasSubstr("Known defect"), HasSubstr("hd95_truncated_text")));
}

double value_of(const std::vector<Score>& scores, const std::string& metric) {
  for (const Score& score : scores) {
    if (score.metric == metric) return score.value;
  }
  ADD_FAILURE() << "no metric " << metric;
  return 0;
}

// A prediction of 2x1x1 voxels beside a reference of 2x1x1, sharing one; and one far voxel each.
class GeneralMetrics : public ::testing::Test {
 protected:
  GeneralMetrics() : prediction_(20 * 4 * 4), reference_(20 * 4 * 4) {
    const auto set = [](std::vector<std::uint8_t>& labels, int x) { labels[20 * 4 + 20 + x] = 3; };
    set(prediction_, 2), set(prediction_, 3), set(prediction_, 10);
    set(reference_, 3), set(reference_, 4), set(reference_, 18);
  }
  std::vector<Score> score(const Convention& convention) const {
    return score_case({prediction_, reference_, {{20, 4, 4}, {0.5, 2, 1}}}, {{"ET", {3}}},
                      {convention});
  }
  std::vector<std::uint8_t> prediction_, reference_;
};

TEST_F(GeneralMetrics, EveryConventionGivesThem) {
  for (const Convention& convention : conventions()) {
    const Convention extended = with_metrics(convention, general_metrics());
    const auto scores = score(extended);
    for (const std::string& name : general_metrics()) {
      EXPECT_FALSE(std::isnan(value_of(scores, name))) << convention.name << " " << name;
    }
    // What the tool has by itself stays as it is, and first.
    const auto own = score(convention);
    for (std::size_t i = 0; i < own.size(); ++i) {
      EXPECT_EQ(own[i].metric, scores[i].metric);
      EXPECT_EQ(own[i].value, scores[i].value) << convention.name << " " << own[i].metric;
    }
  }
}

TEST_F(GeneralMetrics, HaveTheirTextbookValues) {
  std::vector<std::string> names = general_metrics();
  names.insert(names.end(), {"nsd_0.5mm", "nsd_0mm"});
  const auto scores = score(with_metrics(find_convention("segmamba"), names));
  const auto millimetres = score(with_metrics(find_convention("medpy"), names));
  EXPECT_DOUBLE_EQ(value_of(scores, "dice"), 2.0 / 6);
  EXPECT_DOUBLE_EQ(value_of(scores, "iou"), 1.0 / 5);
  EXPECT_DOUBLE_EQ(value_of(scores, "sensitivity"), 1.0 / 3);
  EXPECT_DOUBLE_EQ(value_of(scores, "precision"), 1.0 / 3);
  EXPECT_DOUBLE_EQ(value_of(scores, "specificity"), 315.0 / 317);
  EXPECT_DOUBLE_EQ(value_of(scores, "gt_volume_mm3"), 3);
  EXPECT_DOUBLE_EQ(value_of(scores, "pred_volume_mm3"), 3);
  EXPECT_DOUBLE_EQ(value_of(scores, "volume_difference_mm3"), 0);
  EXPECT_DOUBLE_EQ(value_of(scores, "volume_similarity"), 1);
  // Distances from 2, 3, 10 to the nearest of 3, 4, 18 and back: 1, 0, 6; 0, 1, 8 voxels.
  EXPECT_DOUBLE_EQ(value_of(scores, "hd"), 8);
  EXPECT_DOUBLE_EQ(value_of(millimetres, "hd"), 4);
  EXPECT_DOUBLE_EQ(value_of(scores, "assd"), 16.0 / 6);
  EXPECT_DOUBLE_EQ(value_of(scores, "nsd_1mm"), 4.0 / 6);  // the published script counts voxels
  EXPECT_DOUBLE_EQ(value_of(scores, "nsd_0.5mm"), 2.0 / 6);
  EXPECT_DOUBLE_EQ(value_of(millimetres, "nsd_0.5mm"), 4.0 / 6);
  EXPECT_DOUBLE_EQ(value_of(millimetres, "nsd_0mm"), 2.0 / 6);
  EXPECT_DOUBLE_EQ(value_of(scores, "tp"), 1);
  EXPECT_DOUBLE_EQ(value_of(scores, "fp"), 1);
  EXPECT_DOUBLE_EQ(value_of(scores, "fn"), 1);
  EXPECT_DOUBLE_EQ(value_of(scores, "lesion_dice"), 0.5 / 3);
  const double penalty = std::sqrt(20.0 * 20 + 16 + 16);
  EXPECT_DOUBLE_EQ(value_of(scores, "lesion_hd95"), (1 + 2 * penalty) / 3);
}

TEST_F(GeneralMetrics, TwoEmptyMasksArePerfectAndOneIsTheWorst) {
  const Convention published = with_metrics(find_convention("segmamba"), general_metrics());
  std::fill(prediction_.begin(), prediction_.end(), 0);
  auto scores = score(published);
  EXPECT_EQ(value_of(scores, "iou"), 0);
  EXPECT_EQ(value_of(scores, "hd"), std::numeric_limits<double>::infinity());
  EXPECT_EQ(value_of(scores, "nsd_1mm"), 0);
  EXPECT_EQ(value_of(scores, "precision"), 0);
  EXPECT_EQ(value_of(scores, "lesion_dice"), 0);
  EXPECT_EQ(value_of(scores, "hd95"), 50);  // the tool's own rule
  std::fill(reference_.begin(), reference_.end(), 0);
  scores = score(published);
  for (const char* name : {"iou", "nsd_1mm", "sensitivity", "precision", "lesion_dice"}) {
    EXPECT_EQ(value_of(scores, name), 1) << name;
  }
  for (const char* name : {"hd", "assd", "lesion_hd95", "tp", "fp", "fn"}) {
    EXPECT_EQ(value_of(scores, name), 0) << name;
  }
}

TEST(WithMetrics, RefusesUnknownNames) {
  const Convention& published = find_convention("segmamba");
  for (const char* name : {"asssd", "nsd_mm", "nsd_-1mm", "nsd_infmm", "nsd_1 mm"}) {
    EXPECT_THROW(with_metrics(published, {name}), UsageError) << name;
  }
  EXPECT_THAT(explain(with_metrics(published, {"iou", "tp"})),
              AllOf(HasSubstr("not of the tool, but counted by its surface, unit and percentile: "
                              "iou, tp"),
                    HasSubstr("26-connected parts, matched by any shared voxel")));
}

TEST(LesionRule, HasExceptionsForRegions) {
  const LesionRule& rule = *find_convention("brats2024").lesions;
  EXPECT_EQ(rule.for_region("ET").minimum_volume, 10);
  EXPECT_EQ(rule.for_region("RC").dilation, 5);
  EXPECT_EQ(rule.for_region("WT").dilation, 3);
  EXPECT_EQ(rule.for_region("WT").minimum_volume, 20);
}

}  // namespace
}  // namespace segmamba::metrics
