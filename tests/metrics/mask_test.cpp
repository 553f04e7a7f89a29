#include "segmamba/metrics/mask.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "segmamba/core/error.h"
#include "segmamba/core/random.h"
#include "segmamba/metrics/components.h"
#include "segmamba/metrics/score.h"
#include "segmamba/metrics/surface.h"

namespace segmamba::metrics {
namespace {

TEST(Box, BoundsCropsAndGrows) {
  constexpr Size kSize = {5, 4, 3};
  std::vector<std::uint8_t> labels(60);
  labels[(1 * 4 + 2) * 5 + 3] = 4;
  labels[(2 * 4 + 1) * 5 + 1] = 2;
  const Box box = bounding_box(labels, kSize);
  EXPECT_EQ(box.low, (Size{1, 1, 1}));
  EXPECT_EQ(box.high, (Size{4, 3, 3}));
  EXPECT_EQ(crop(labels, kSize, box),
            (std::vector<std::uint8_t>{0, 0, 0, 0, 0, 4, 2, 0, 0, 0, 0, 0}));
  const Box grown = box.grown(2, kSize);
  EXPECT_EQ(grown.low, (Size{0, 0, 0}));
  EXPECT_EQ(grown.high, kSize);
}

TEST(Box, OfNothingIsEmpty) {
  const std::vector<std::uint8_t> labels(60);
  const Box none = bounding_box(labels, {5, 4, 3});
  EXPECT_TRUE(none.empty());
  EXPECT_TRUE(none.grown(3, {5, 4, 3}).empty());
  const Box some{{1, 1, 1}, {2, 3, 2}};
  EXPECT_EQ(none.united(some).high, some.high);
  EXPECT_EQ(some.united(none).low, some.low);
}

TEST(Dice, CountsRegions) {
  const std::vector<std::uint8_t> p = {0, 1, 2, 3, 3, 4}, g = {1, 1, 0, 3, 2, 4};
  EXPECT_DOUBLE_EQ(dice(p, g, brats_regions()[0]), 2.0 * 3 / (4 + 4));
  EXPECT_DOUBLE_EQ(dice(p, g, brats_regions()[1]), 2.0 * 2 / (3 + 3));
  EXPECT_DOUBLE_EQ(dice(p, g, brats_regions()[2]), 2.0 * 1 / (2 + 1));
  EXPECT_DOUBLE_EQ(dice(p, g, {"none", {9}}, 0.25), 0.25);
  EXPECT_THROW(dice(p, std::vector<std::uint8_t>(3), brats_regions()[0]), Error);
}

// A flat wall in the middle of a grid: each lattice point stands for one voxel face.
TEST(CornerSurface, AreaOfAFlatWall) {
  const Spacing spacing = {0.5, 2, 3};
  const std::vector<double> areas = corner_areas(spacing);
  EXPECT_DOUBLE_EQ(areas[0b11110000], spacing[1] * spacing[2]);  // voxels on the high side along x
  EXPECT_DOUBLE_EQ(areas[0b11001100], spacing[0] * spacing[2]);  // y
  EXPECT_DOUBLE_EQ(areas[0b10101010], spacing[0] * spacing[1]);  // z
  EXPECT_EQ(areas[0], 0);
  EXPECT_EQ(areas[255], 0);
  for (int pattern = 1; pattern < 255; ++pattern) {
    EXPECT_GT(areas[pattern], 0) << pattern;
    EXPECT_DOUBLE_EQ(areas[pattern], areas[255 - pattern]) << pattern;
  }
}

TEST(FaceSurface, CountsTheBorderOfTheGrid) {
  Mask full({4, 5, 6});
  full.voxels.assign(full.voxels.size(), 1);
  EXPECT_EQ(count(face_surface(full)), 4 * 5 * 6 - 2 * 3 * 4);
}

TEST(ScoreCase, RefusesSizesThatDoNotFit) {
  const std::vector<std::uint8_t> eight(8), nine(9);
  try {
    score_case({eight, nine, {{2, 2, 2}, {1, 1, 1}}}, brats_regions(), conventions());
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr("2x2x2 has 8 voxels, got 8 for the prediction "
                                                   "and 9 for the reference"));
  }
}

// Scores do not depend on where in the grid the labels lie, nor on which metrics are asked for.
TEST(ScoreCase, KeepsOnlyTheMetricsAskedFor) {
  std::vector<std::uint8_t> p(10 * 9 * 8), g(10 * 9 * 8);
  p[100] = p[101] = g[101] = g[102] = 3;
  const auto all = score_case({p, g, {{10, 9, 8}, {1, 1, 1}}}, brats_regions(), conventions());
  const auto some = score_case({p, g, {{10, 9, 8}, {1, 1, 1}}}, brats_regions(), conventions(),
                               {"dice", "lesion_hd95"});
  std::size_t next = 0;
  for (const Score& score : all) {
    if (score.metric != "dice" && score.metric != "lesion_hd95") continue;
    ASSERT_LT(next, some.size());
    EXPECT_EQ(some[next].metric, score.metric);
    EXPECT_EQ(some[next].convention, score.convention);
    EXPECT_EQ(some[next].region, score.region);
    EXPECT_EQ(some[next].value, score.value);
    ++next;
  }
  EXPECT_EQ(next, some.size());
}

// Whatever is told which rows are empty gives what it gives without.
TEST(Rows, ChangeNoResult) {
  Random random(11);
  constexpr Size kSize = {13, 9, 11};
  const Region region{"WT", {1, 2, 3}};
  for (int trial = 0; trial < 60; ++trial) {
    std::vector<std::uint8_t> labels(static_cast<std::size_t>(voxel_count(kSize)));
    std::vector<std::uint8_t> others(labels.size());
    for (int i = 0; i < trial; ++i) {
      labels[random.integer(voxel_count(kSize))] = static_cast<std::uint8_t>(random.integer(5));
      others[random.integer(voxel_count(kSize))] = static_cast<std::uint8_t>(random.integer(5));
    }
    const Mask plain = region_mask(labels, kSize, region);
    const Mask other = region_mask(others, kSize, region);
    const Mask hinted = region_mask(labels, kSize, region, labelled_rows(labels, kSize));
    const Mask other_hinted = region_mask(others, kSize, region, labelled_rows(others, kSize));
    ASSERT_EQ(hinted.voxels, plain.voxels);
    EXPECT_EQ(count(hinted), count(plain));
    EXPECT_EQ(count_common(hinted, other_hinted), count_common(plain, other));
    EXPECT_EQ(dilate_18(hinted, 2).voxels, dilate_18(plain, 2).voxels);
    EXPECT_EQ(face_surface(hinted).voxels, face_surface(plain).voxels);
    const Components a = connected_components_26(hinted), b = connected_components_26(plain);
    EXPECT_EQ(a.labels, b.labels);
    EXPECT_EQ(a.sizes, b.sizes);
    for (const SurfaceKind kind : {SurfaceKind::kFaceNeighbours, SurfaceKind::kVoxelCorners}) {
      const auto expected = surface_distances(plain, other, kind, {1, 2, 0.7});
      const auto found = surface_distances(hinted, other_hinted, kind, {1, 2, 0.7});
      EXPECT_EQ(found.prediction_to_reference.distances,
                expected.prediction_to_reference.distances);
      EXPECT_EQ(found.reference_to_prediction.areas, expected.reference_to_prediction.areas);
    }
  }
}

}  // namespace
}  // namespace segmamba::metrics
