#include "segmamba/metrics/region_volumes.h"

#include <gtest/gtest.h>

#include <vector>

namespace segmamba::metrics {
namespace {

TEST(RegionVolumesTest, CountsVoxelsAndMillilitres) {
  // Runs that are empty, full and mixed, and a rest that is no whole run.
  std::vector<std::uint8_t> labels(1000, 0);
  for (std::size_t i = 100; i < 300; ++i) labels[i] = 2;
  for (std::size_t i = 250; i < 275; ++i) labels[i] = 1;
  labels[999] = labels[64] = labels[63] = 3;
  labels[500] = 255;
  const std::vector<Region> regions = {{"WT", {1, 2, 3}},    {"TC", {1, 3}},  {"ET", {3}},
                                       {"twice", {3, 1, 3}}, {"last", {255}}, {"background", {0}},
                                       {"absent", {7}},      {"nothing", {}}};
  const auto volumes = region_volumes(labels, {0.5, 2, 4}, regions);
  const std::vector<std::int64_t> expected = {203, 28, 3, 28, 1, 796, 0, 0};
  ASSERT_EQ(volumes.size(), regions.size());
  for (std::size_t i = 0; i < regions.size(); ++i) {
    EXPECT_EQ(volumes[i].name, regions[i].name);
    EXPECT_EQ(volumes[i].voxels, expected[i]) << regions[i].name;
    EXPECT_DOUBLE_EQ(volumes[i].ml, 0.004 * static_cast<double>(expected[i])) << regions[i].name;
  }
}

TEST(RegionVolumesTest, OfNoVoxelsAreZero) {
  const auto volumes = region_volumes({}, {1, 1, 1}, brats_regions());
  ASSERT_EQ(volumes.size(), 3U);
  for (const auto& volume : volumes) {
    EXPECT_EQ(volume.voxels, 0);
    EXPECT_EQ(volume.ml, 0);
  }
}

}  // namespace
}  // namespace segmamba::metrics
