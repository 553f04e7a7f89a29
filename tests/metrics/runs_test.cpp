#include "segmamba/metrics/runs.h"

#include <gmock/gmock.h>

#include <cstdlib>

#include "segmamba/core/random.h"

namespace segmamba::metrics {
namespace {

using ::testing::ElementsAre;

Mask random_mask(const Size& size, double density, std::uint64_t seed) {
  Random random(seed);
  Mask mask(size);
  for (std::uint8_t& voxel : mask.voxels) voxel = random.chance(density) ? 1 : 0;
  return mask;
}

bool are_neighbours(const Size& a, const Size& b, Connectivity connectivity) {
  const std::int64_t dx = std::abs(a[0] - b[0]), dy = std::abs(a[1] - b[1]),
                     dz = std::abs(a[2] - b[2]);
  const std::int64_t most = connectivity == Connectivity::kFaces   ? 1
                            : connectivity == Connectivity::kEdges ? 2
                                                                   : 3;
  return std::max({dx, dy, dz}) == 1 && dx + dy + dz <= most;
}

// The part of each voxel in memory order, numbered by first voxel; -1 outside.
std::vector<std::int32_t> flood_fill(const Mask& mask, Connectivity connectivity) {
  std::vector<Size> members;
  for (std::int64_t z = 0; z < mask.size[2]; ++z) {
    for (std::int64_t y = 0; y < mask.size[1]; ++y) {
      for (std::int64_t x = 0; x < mask.size[0]; ++x) {
        if (mask.voxels[mask.index(x, y, z)] != 0) members.push_back({x, y, z});
      }
    }
  }
  std::vector<std::int32_t> parts(mask.voxels.size(), -1);
  std::int32_t count = 0;
  const auto part_of = [&](const Size& at) -> std::int32_t& {
    return parts[mask.index(at[0], at[1], at[2])];
  };
  for (const Size& seed : members) {
    if (part_of(seed) >= 0) continue;
    std::vector<Size> open = {seed};
    part_of(seed) = count;
    while (!open.empty()) {
      const Size at = open.back();
      open.pop_back();
      for (const Size& next : members) {
        if (part_of(next) >= 0 || !are_neighbours(at, next, connectivity)) continue;
        part_of(next) = count;
        open.push_back(next);
      }
    }
    ++count;
  }
  return parts;
}

TEST(Runs, AreTheStretchesOfEachRow) {
  Mask mask({5, 2, 2});
  for (const std::int64_t x : {0, 1, 4}) mask.voxels[mask.index(x, 1, 0)] = 1;
  mask.voxels[mask.index(3, 0, 1)] = 1;
  const Runs runs = runs_of(mask);
  std::vector<std::array<std::int64_t, 4>> found;
  runs.for_each([&](const auto& run, std::int32_t, std::int64_t y, std::int64_t z) {
    found.push_back({run.low, run.high, y, z});
  });
  EXPECT_THAT(found, ElementsAre(std::array<std::int64_t, 4>{0, 2, 1, 0},
                                 std::array<std::int64_t, 4>{4, 5, 1, 0},
                                 std::array<std::int64_t, 4>{3, 4, 0, 1}));
}

TEST(ConnectedParts, EqualFloodFill) {
  std::uint64_t seed = 0;
  for (const Connectivity connectivity :
       {Connectivity::kFaces, Connectivity::kEdges, Connectivity::kCorners}) {
    for (const double density : {0.03, 0.1, 0.2, 0.4, 0.7, 1.0}) {
      for (const Size& size : {Size{9, 8, 7}, Size{1, 20, 6}, Size{20, 1, 1}, Size{6, 6, 6}}) {
        const Mask mask = random_mask(size, density, seed++);
        const Runs runs = runs_of(mask);
        const Parts parts = connected_parts(runs, connectivity);
        std::vector<std::int32_t> found(mask.voxels.size(), -1);
        runs.for_each([&](const auto& run, std::int32_t place, std::int64_t y, std::int64_t z) {
          for (std::int64_t x = run.low; x < run.high; ++x) {
            found[mask.index(x, y, z)] = parts.of_run[place];
          }
        });
        EXPECT_EQ(found, flood_fill(mask, connectivity));
        std::vector<std::int64_t> voxels(parts.voxels.size());
        for (const std::int32_t part : found) {
          if (part >= 0) ++voxels.at(part);
        }
        EXPECT_EQ(parts.voxels, voxels);
      }
    }
  }
}

TEST(ConnectedParts, OfNothingAreNone) {
  EXPECT_EQ(connected_parts(runs_of(Mask({3, 3, 3})), Connectivity::kFaces).count(), 0);
  EXPECT_EQ(connected_parts(runs_of(Mask({0, 0, 0})), Connectivity::kCorners).count(), 0);
}

}  // namespace
}  // namespace segmamba::metrics
