// Corner cases of the lesion-wise scores, with values worked out by hand.
#include "lesions.h"

#include <gtest/gtest.h>

#include <map>

#include "segmamba/metrics/score.h"

namespace segmamba::metrics {
namespace {

class Labels {
 public:
  Labels& box(const Size& low, const Size& high, std::uint8_t label = 3) {
    for (std::int64_t z = low[2]; z < high[2]; ++z) {
      for (std::int64_t y = low[1]; y < high[1]; ++y) {
        for (std::int64_t x = low[0]; x < high[0]; ++x) {
          voxels[(z * kGrid.size[1] + y) * kGrid.size[0] + x] = label;
        }
      }
    }
    return *this;
  }
  static constexpr Grid kGrid{{40, 20, 20}, {1, 1, 1}};
  std::vector<std::uint8_t> voxels = std::vector<std::uint8_t>(40 * 20 * 20);
};

std::map<std::string, double> score(const Labels& prediction, const Labels& reference,
                                    const std::string& convention) {
  std::map<std::string, double> values;
  for (const Score& score : score_case({prediction.voxels, reference.voxels, Labels::kGrid},
                                       {{"WT", {1, 2, 3}}}, {find_convention(convention)})) {
    values[score.metric] = score.value;
  }
  return values;
}

TEST(Lesions, AMissedAndAnInventedLesionCountTheWorst) {
  Labels g, p;
  g.box({2, 2, 2}, {8, 8, 8}).box({20, 2, 2}, {26, 8, 8});
  p.box({2, 2, 2}, {8, 8, 8}).box({33, 12, 12}, {34, 13, 13});
  const auto values = score(p, g, "brats2023");
  EXPECT_EQ(values.at("tp"), 1);
  EXPECT_EQ(values.at("fn"), 1);
  EXPECT_EQ(values.at("fp"), 1);
  EXPECT_DOUBLE_EQ(values.at("lesion_dice"), 1.0 / 3);
  EXPECT_DOUBLE_EQ(values.at("lesion_hd95"), 2 * 374.0 / 3);
}

TEST(Lesions, ContactWithoutOverlapMatches) {
  Labels g, p;
  g.box({2, 2, 2}, {8, 8, 8});
  p.box({10, 2, 2}, {12, 8, 8});  // a gap of two voxels: within three dilations
  const auto values = score(p, g, "brats2023");
  EXPECT_EQ(values.at("tp"), 1);
  EXPECT_EQ(values.at("fp"), 0);
  EXPECT_EQ(values.at("lesion_dice"), 0);
  EXPECT_LT(values.at("lesion_hd95"), 10);
  // With the single dilation of the meningioma challenge they do not touch.
  EXPECT_EQ(score(p, g, "brats2023-men").at("fp"), 1);
}

TEST(Lesions, SmallOnesAreNotScoredButTheirMatchIsNoFalsePositive) {
  Labels g, p;
  g.box({2, 2, 2}, {7, 7, 4});  // 50 mm3
  p.box({2, 2, 2}, {7, 7, 4});
  const auto small = score(p, g, "brats2023");
  EXPECT_EQ(small.at("tp") + small.at("fp") + small.at("fn"), 0);
  EXPECT_EQ(small.at("lesion_dice"), 1);
  EXPECT_EQ(small.at("lesion_hd95"), 0);
  g.box({7, 2, 2}, {8, 3, 3});  // 51 mm3
  const auto larger = score(p, g, "brats2023");
  EXPECT_EQ(larger.at("tp"), 1);
  EXPECT_DOUBLE_EQ(larger.at("lesion_dice"), 2 * 50.0 / 101);
}

TEST(Lesions, OnePredictionMayMatchTwoReferenceLesions) {
  Labels g, p;
  g.box({2, 2, 2}, {8, 8, 8}).box({20, 2, 2}, {26, 8, 8});
  p.box({2, 2, 2}, {26, 8, 8});
  const auto values = score(p, g, "brats2023");
  EXPECT_EQ(values.at("tp"), 2);
  EXPECT_EQ(values.at("fp"), 0);
  EXPECT_DOUBLE_EQ(values.at("lesion_dice"), 2 * 216.0 / (216 + 864));
}

TEST(Lesions, DilationsThatTouchMakeOneLesion) {
  Mask mask({20, 5, 5});
  mask.voxels[mask.index(2, 2, 2)] = 1;
  mask.voxels[mask.index(9, 2, 2)] = 1;
  // Reaches of three voxels each, 3..5 and 6..8: neighbours.
  EXPECT_EQ(merged_lesions(mask, 3).count, 1);
  EXPECT_EQ(merged_lesions(mask, 2).count, 2);
  EXPECT_EQ(merged_lesions(mask, 3).voxels(1), 2);
}

TEST(Lesions, Brats2024ErasesSmallPredictions) {
  Labels g, p;
  g.box({2, 2, 2}, {8, 8, 8});
  p.box({2, 2, 2}, {8, 8, 8}).box({30, 10, 10}, {32, 12, 15});  // 20 voxels
  const auto values = score(p, g, "brats2024");
  EXPECT_EQ(values.at("fp"), 0);
  EXPECT_EQ(values.at("dice"), 1);
  p.box({32, 10, 10}, {33, 11, 11});
  EXPECT_EQ(score(p, g, "brats2024").at("fp"), 1);
}

TEST(Lesions, AreJoinedThroughAnotherTissue) {
  Mask own({20, 5, 5}), tissue({20, 5, 5});
  own.voxels[own.index(2, 2, 2)] = own.voxels[own.index(8, 2, 2)] = 1;
  own.voxels[own.index(15, 2, 2)] = 1;
  for (int x = 3; x < 8; ++x) tissue.voxels[tissue.index(x, 2, 2)] = 1;
  const Components joined =
      joined_through(connected_components_26(own), connected_components_26(tissue));
  ASSERT_EQ(joined.count, 2);
  EXPECT_EQ(joined.labels[own.index(2, 2, 2)], joined.labels[own.index(8, 2, 2)]);
  EXPECT_NE(joined.labels[own.index(2, 2, 2)], joined.labels[own.index(15, 2, 2)]);
}

}  // namespace
}  // namespace segmamba::metrics
