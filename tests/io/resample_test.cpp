#include "segmamba/io/resample.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>

#include "segmamba/core/random.h"
#include "segmamba/io/orientation.h"
#include "support/error_of.h"
#include "support/orientations.h"

namespace segmamba::io {
namespace {

using ::testing::HasSubstr;

using test::world;

// `value(place)` at the place of every voxel in the world.
template <class T, class Value>
Volume<T> filled(const Geometry& geometry, Value value) {
  Volume<T> volume{geometry, {}};
  for (std::int64_t z = 0; z < geometry.size[2]; ++z) {
    for (std::int64_t y = 0; y < geometry.size[1]; ++y) {
      for (std::int64_t x = 0; x < geometry.size[0]; ++x) {
        const std::array<double, 3> index = {static_cast<double>(x), static_cast<double>(y),
                                             static_cast<double>(z)};
        volume.voxels.push_back(static_cast<T>(value(world(geometry, index))));
      }
    }
  }
  return volume;
}

Geometry grid(std::array<std::int64_t, 3> size, std::array<double, 3> spacing,
              std::array<double, 3> origin, double degrees = 0) {
  Geometry geometry;
  geometry.size = size;
  geometry.spacing = spacing;
  geometry.origin = origin;
  geometry.direction = test::product(test::rotation(degrees, 2), test::rotation(degrees, 0));
  return geometry;
}

double ramp(const std::array<double, 3>& place) {
  return 2 * place[0] - 3 * place[1] + 0.5 * place[2] + 7;
}

TEST(ResampleInto, ALinearRampOfTheWorldStaysTheRamp) {
  const auto image = filled<float>(grid({30, 28, 26}, {1, 1.5, 2}, {-10, -15, -20}, 10), ramp);
  for (const auto& target :
       {grid({9, 8, 7}, {0.7, 0.9, 1.1}, {0, 0, 0}), grid({6, 5, 4}, {2, 2, 2}, {-4, 6, 2}, -35),
        grid({5, 5, 5}, {1, 1, 1}, {4, 4, 4}, 170)}) {
    const auto result = resample_into(target, image);
    const auto expected = filled<float>(target, ramp);
    EXPECT_EQ(geometry_difference(result.geometry, target, 0), "");
    for (std::size_t i = 0; i < expected.voxels.size(); ++i) {
      ASSERT_NEAR(result.voxels[i], expected.voxels[i], 5e-4) << i;  // 1e-4 of a voxel
    }
  }
}

// What lies on the voxels of the image is exact, whichever way the axes run.
TEST(ResampleInto, VoxelsThatMeetAreExact) {
  Random random(5);
  auto image = filled<float>(grid({7, 6, 5}, {0.7, 1.3, 2.9}, {0.1, -20, 33}, 23),
                             [&](const auto&) { return random.normal(); });
  EXPECT_EQ(resample_into(image.geometry, image).voxels, image.voxels);
  auto labels =
      filled<std::uint8_t>(image.geometry, [&](const auto&) { return random.integer(9); });
  EXPECT_EQ(resample_into(image.geometry, labels).voxels, labels.voxels);
  for (const char* letters : {"RAS", "SLP", "AIR"}) {
    const auto axes = axes_towards(image.geometry, letters);
    const Geometry turned = reoriented(image.geometry, axes);
    const auto result = resample_into(turned, image);
    EXPECT_EQ(resample_into(image.geometry, result).voxels, image.voxels) << letters;
    EXPECT_EQ(resample_into(image.geometry, resample_into(turned, labels)).voxels, labels.voxels);
    auto sorted = result.voxels, expected = image.voxels;
    std::sort(sorted.begin(), sorted.end());
    std::sort(expected.begin(), expected.end());
    EXPECT_EQ(sorted, expected) << letters;  // every voxel is one of them
    EXPECT_NE(result.voxels, image.voxels);
  }
}

// Two voxels of 2 mm: faces at -1 and 3, centres at 0 and 2.
TEST(ResampleInto, GoesToTheFacesAndNoFurther) {
  const Image image{grid({2, 1, 1}, {2, 2, 2}, {0, 0, 0}), {10, 20}};
  const auto result = resample_into(grid({10, 1, 1}, {0.5, 1, 1}, {-1.5, 0.9, -0.9}), image);
  EXPECT_THAT(result.voxels, ::testing::ElementsAre(0, 10, 10, 10, 12.5, 15, 17.5, 20, 20, 20));
  const LabelMap labels{image.geometry, {1, 2}};
  EXPECT_THAT(resample_into(result.geometry, labels).voxels,
              ::testing::ElementsAre(0, 1, 1, 1, 1, 2, 2, 2, 2, 2));
  EXPECT_THAT(resample_into(grid({1, 3, 1}, {1, 1, 1}, {0, -1, 0}), image).voxels,
              ::testing::ElementsAre(10, 10, 10));
  EXPECT_THAT(resample_into(grid({1, 1, 3}, {1, 1, 1.01}, {0, 0, -1.01}), image).voxels,
              ::testing::ElementsAre(0, 10, 0));
}

TEST(ResampleInto, RefusesGridsThatDoNotMeet) {
  const Image image{grid({2, 1, 1}, {2, 2, 2}, {0, 0, 0}), {10, 20}};
  EXPECT_THAT(test::error_of([&] {
                resample_into(grid({2, 2, 2}, {1, 1, 1}, {50, 0, 0}), image);
              }),
              HasSubstr("the grids do not overlap: 2x1x1 voxels of 2x2x2 mm from (0, 0, 0) and "
                        "2x2x2 voxels of 1x1x1 mm from (50, 0, 0)"));
}

}  // namespace
}  // namespace segmamba::io
