#include "segmamba/metrics/distance_transform.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "segmamba/core/random.h"

namespace segmamba::metrics {
namespace {

Mask random_mask(const Size& size, double density, std::uint64_t seed) {
  Random random(seed);
  Mask mask(size);
  for (std::uint8_t& voxel : mask.voxels) voxel = random.chance(density) ? 1 : 0;
  return mask;
}

std::vector<double> brute_force(const Mask& seeds, const Mask& queries, const Spacing& spacing) {
  const auto list = [](const Mask& mask) {
    std::vector<Size> voxels;
    for (std::int64_t z = 0; z < mask.size[2]; ++z) {
      for (std::int64_t y = 0; y < mask.size[1]; ++y) {
        for (std::int64_t x = 0; x < mask.size[0]; ++x) {
          if (mask.voxels[mask.index(x, y, z)] != 0) voxels.push_back({x, y, z});
        }
      }
    }
    return voxels;
  };
  std::vector<double> distances;
  const std::vector<Size> all_seeds = list(seeds);
  for (const Size& query : list(queries)) {
    double best = std::numeric_limits<double>::infinity();
    for (const Size& seed : all_seeds) {
      double squares = 0;
      for (int axis = 0; axis < 3; ++axis) {
        const double offset = spacing[axis] * static_cast<double>(query[axis] - seed[axis]);
        squares += offset * offset;
      }
      best = std::min(best, squares);
    }
    distances.push_back(std::sqrt(best));
  }
  return distances;
}

struct Setting {
  Size size;
  Spacing spacing;
  double seed_density, query_density;
};

class DistanceTransform : public ::testing::TestWithParam<Setting> {};

TEST_P(DistanceTransform, EqualsBruteForce) {
  const Setting& setting = GetParam();
  for (std::uint64_t seed = 0; seed < 4; ++seed) {
    const Mask seeds = random_mask(setting.size, setting.seed_density, 2 * seed);
    const Mask queries = random_mask(setting.size, setting.query_density, 2 * seed + 1);
    const auto expected = brute_force(seeds, queries, setting.spacing);
    const auto distances = distances_to(seeds, queries, setting.spacing);
    ASSERT_EQ(distances.size(), expected.size());
    for (std::size_t i = 0; i < expected.size(); ++i) {
      if (std::isinf(expected[i])) {
        EXPECT_EQ(distances[i], expected[i]);
      } else {
        EXPECT_NEAR(distances[i], expected[i], 1e-13 * expected[i]) << i;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Random, DistanceTransform,
    ::testing::Values(Setting{{11, 13, 9}, {1, 1, 1}, 0.01, 1},
                      Setting{{11, 13, 9}, {1, 1, 1}, 0.3, 0.2},
                      Setting{{14, 7, 10}, {1, 1, 5}, 0.02, 0.5},
                      Setting{{7, 15, 12}, {0.8999999761581421, 0.7, 5.5}, 0.02, 0.5},
                      Setting{{12, 9, 8}, {3.1, 0.4, 1.2}, 0.001, 0.3},
                      Setting{{1, 20, 1}, {1, 2, 1}, 0.1, 1},
                      Setting{{20, 1, 3}, {1, 2, 1}, 0.1, 1}, Setting{{1, 1, 1}, {1, 1, 1}, 1, 1}));

TEST(DistanceTransformEdges, NoSeedsAreInfinitelyFar) {
  const Mask none({4, 3, 2});
  Mask all({4, 3, 2});
  all.voxels.assign(all.voxels.size(), 1);
  const auto distances = distances_to(none, all, {1, 1, 1});
  EXPECT_EQ(distances, std::vector<double>(24, std::numeric_limits<double>::infinity()));
  EXPECT_TRUE(distances_to(all, none, {1, 1, 1}).empty());
}

TEST(DistanceTransformEdges, IntegerDistancesAreExact) {
  Mask seeds({200, 3, 2}), queries({200, 3, 2});
  seeds.voxels[0] = 1;
  queries.voxels[queries.index(199, 0, 0)] = 1;
  EXPECT_EQ(distances_to(seeds, queries, {1, 1, 1}), std::vector<double>{199});
}

// Near seeds are found by steps, far ones by the transform: every displacement around the change.
TEST(DistanceTransformEdges, NearAndFarSeedsAreExact) {
  constexpr std::int64_t kReach = 6, kSide = 2 * kReach + 1;
  for (const Spacing& spacing : {Spacing{1, 1, 1}, Spacing{1, 1, 2.5}, Spacing{0.9, 0.9, 5.5}}) {
    Mask seed({kSide, kSide, kSide}), queries(seed.size);
    seed.voxels[seed.index(kReach, kReach, kReach)] = 1;
    queries.voxels.assign(queries.voxels.size(), 1);
    const std::vector<double> distances = distances_to(seed, queries, spacing);
    std::size_t i = 0;
    for (std::int64_t z = -kReach; z <= kReach; ++z) {
      for (std::int64_t y = -kReach; y <= kReach; ++y) {
        for (std::int64_t x = -kReach; x <= kReach; ++x, ++i) {
          const double expected = std::sqrt(static_cast<double>(x * x) * spacing[0] * spacing[0] +
                                            static_cast<double>(y * y) * spacing[1] * spacing[1] +
                                            static_cast<double>(z * z) * spacing[2] * spacing[2]);
          ASSERT_NEAR(distances[i], expected, 1e-12 * std::max(1.0, expected));
        }
      }
    }
  }
}

// Of two seeds the nearer one counts, also where only the farther one is far enough for another
// way of finding it.
TEST(DistanceTransformEdges, FarSpecksBesideNearSurfaces) {
  Mask seeds({90, 40, 50}), queries(seeds.size);
  seeds.voxels[seeds.index(3, 3, 3)] = 1;
  seeds.voxels[seeds.index(80, 30, 45)] = 1;
  queries.voxels[queries.index(5, 3, 3)] = 1;
  queries.voxels[queries.index(41, 10, 20)] = 1;
  queries.voxels[queries.index(80, 36, 45)] = 1;
  const std::vector<double> distances = distances_to(seeds, queries, {1, 1, 1});
  ASSERT_EQ(distances.size(), 3u);
  EXPECT_EQ(distances[0], 2);
  EXPECT_DOUBLE_EQ(distances[1], std::sqrt(38.0 * 38 + 7 * 7 + 17 * 17));
  EXPECT_EQ(distances[2], 6);
}

}  // namespace
}  // namespace segmamba::metrics
