#include "segmamba/metrics/convention.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "segmamba/core/error.h"

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
    EXPECT_THAT(error.what(), HasSubstr("no convention 'brats2032'; did you mean 'brats2023'?"));
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
