#include "segmamba/engine/validation.h"

#include <gmock/gmock.h>

#include <cmath>

namespace segmamba::engine {
namespace {

using ::testing::ElementsAre;

TEST(ValidationRegions, FollowTheClasses) {
  const auto regions = [](const std::vector<std::string>& classes,
                          const std::vector<std::string>& regions = {}) {
    data::DataConfig config;
    config.classes = classes;
    config.regions = regions;
    std::vector<std::pair<std::string, std::vector<std::uint8_t>>> all;
    for (const auto& region : validation_regions(config)) {
      all.emplace_back(region.name, region.labels);
    }
    return all;
  };
  using Labels = std::vector<std::uint8_t>;
  EXPECT_THAT(regions(data::kBratsClasses),
              ElementsAre(std::pair{"WT", Labels{1, 2, 3}}, std::pair{"TC", Labels{1, 3}},
                          std::pair{"ET", Labels{3}}));
  EXPECT_THAT(regions({"background", "edema", "ET", "RC", "NCR"}),
              ElementsAre(std::pair{"WT", Labels{4, 1, 2}}, std::pair{"TC", Labels{4, 2}},
                          std::pair{"ET", Labels{2}}));
  EXPECT_THAT(regions({"background", "liver", "tumour"}),
              ElementsAre(std::pair{"liver", Labels{1}}, std::pair{"tumour", Labels{2}}));
  EXPECT_THAT(regions({"background", "liver", "tumour"}, {"organ=liver+tumour", "tumour=tumour"}),
              ElementsAre(std::pair{"organ", Labels{1, 2}}, std::pair{"tumour", Labels{2}}));
}

TEST(ScoreRegions, CountsTheRegionsOfBrats) {
  //                                        WT 3 of 4 and 4; TC 1 of 2 and 2; ET none of 1 and 1
  const std::vector<std::uint8_t> prediction = {0, 1, 2, 3, 2, 0};
  const std::vector<std::uint8_t> reference = {0, 1, 2, 2, 0, 3};
  const auto regions = validation_regions({});
  const metrics::Grid grid{{6, 1, 1}, {2, 1, 1}};
  const auto scores = score_regions(prediction, reference, grid, regions, /*with_hd95=*/true);
  EXPECT_THAT(scores.dice, ElementsAre(2 * 3.0 / 8, 2 * 1.0 / 4, 0));
  EXPECT_DOUBLE_EQ(scores.mean_dice(), (2 * 3.0 / 8 + 2 * 1.0 / 4) / 3);
  // WT: voxels 1 to 4 against 1, 2, 3 and 5: one more, one missed, each 2 mm from the other's. TC:
  // 1 and 3 against 1 and 5: distances 0, 4 | 0, 4. ET: 3 against 5.
  EXPECT_THAT(scores.hd95, ElementsAre(2, 4, 4));
  const std::vector<std::uint8_t> without = {0, 2, 0, 0, 0, 0};
  const auto empty = score_regions(without, without, grid, regions, true);
  EXPECT_DOUBLE_EQ(empty.dice[2], 1);
  EXPECT_DOUBLE_EQ(empty.hd95[2], 0);
  const auto missed = score_regions(without, reference, grid, regions, true);
  EXPECT_DOUBLE_EQ(missed.dice[2], 0);
  EXPECT_DOUBLE_EQ(missed.hd95[2], std::sqrt(12 * 12 + 1 + 1));
  EXPECT_TRUE(score_regions(without, reference, grid, regions, false).hd95.empty());
}

}  // namespace
}  // namespace segmamba::engine
