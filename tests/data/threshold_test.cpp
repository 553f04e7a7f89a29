#include "segmamba/data/threshold.h"

#include <gtest/gtest.h>

#include "prepared_scene.h"
#include "segmamba/core/error.h"

namespace segmamba::data {
namespace {

TEST(BestThresholdDice, FindsTheBestThresholdOnEitherSide) {
  // Background, then three normal and three tumour voxels, then a bright normal one.
  const std::vector<std::uint8_t> labels = {0, 0, 0, 0, 1, 2, 3, 0};
  const std::vector<float> first = {0, -1, -0.5f, 0.5f, 1, 1.5f, 2, 3};
  const std::vector<float> second = {0, 1, 2, 3, -1, -2, -3, 0.5f};
  const auto negative = [](std::vector<float> values) {
    for (float& z : values) z = -z;
    return values;
  };
  const auto item = test::prepared_case({1, 1, 8}, {first, second}, labels, 4);
  const auto results = best_threshold_dice({item});
  EXPECT_DOUBLE_EQ(results[0].dice, 2.0 * 3 / (3 + 4));
  EXPECT_TRUE(results[0].above);
  EXPECT_GT(results[0].threshold, 0.5);
  EXPECT_LE(results[0].threshold, 1);
  EXPECT_DOUBLE_EQ(results[1].dice, 1.0);
  EXPECT_FALSE(results[1].above);
  // One threshold for all cases: the second case is the mirror image of the first.
  auto other = test::prepared_case({1, 1, 8}, {negative(first), negative(second)}, labels, 4);
  EXPECT_LT(best_threshold_dice({item, other})[1].dice, 0.8);
  other.labels = {};
  EXPECT_THROW(best_threshold_dice({other}), Error);
  EXPECT_THROW(best_threshold_dice({}), Error);
}

}  // namespace
}  // namespace segmamba::data
