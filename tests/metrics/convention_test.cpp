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
      const std::string in_reference =
          both[i].metric == "specificity" ? "by its formula" : number(reference[i].value);
      EXPECT_THAT(explained, ::testing::EndsWith(
                                 concat(" both ", number(both[i].value), ", prediction ",
                                        number(prediction[i].value), ", reference ", in_reference)))
          << convention.name;
    }
  }
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
