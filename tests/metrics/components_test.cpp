#include "segmamba/metrics/components.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "segmamba/core/random.h"

namespace segmamba::metrics {
namespace {

Mask random_mask(const Size& size, double density, std::uint64_t seed) {
  Random random(seed);
  Mask mask(size);
  for (std::uint8_t& voxel : mask.voxels) voxel = random.chance(density) ? 1 : 0;
  return mask;
}

// Calls body(x, y, z) for x slowest and z fastest.
template <class Body>
void for_each_index(const Size& size, Body body) {
  for (std::int64_t x = 0; x < size[0]; ++x) {
    for (std::int64_t y = 0; y < size[1]; ++y) {
      for (std::int64_t z = 0; z < size[2]; ++z) body(x, y, z);
    }
  }
}

ZeroedVector<std::int32_t> flood_fill(const Mask& mask) {
  ZeroedVector<std::int32_t> labels(mask.voxels.size());
  std::int32_t count = 0;
  for_each_index(mask.size, [&](std::int64_t x, std::int64_t y, std::int64_t z) {
    if (mask.voxels[mask.index(x, y, z)] == 0 || labels[mask.index(x, y, z)] != 0) return;
    labels[mask.index(x, y, z)] = ++count;
    std::vector<Size> open = {{x, y, z}};
    while (!open.empty()) {
      const Size at = open.back();
      open.pop_back();
      for_each_index({3, 3, 3}, [&](std::int64_t i, std::int64_t j, std::int64_t k) {
        const Size next = {at[0] + i - 1, at[1] + j - 1, at[2] + k - 1};
        for (int axis = 0; axis < 3; ++axis) {
          if (next[axis] < 0 || next[axis] >= mask.size[axis]) return;
        }
        const std::int64_t index = mask.index(next[0], next[1], next[2]);
        if (mask.voxels[index] == 0 || labels[index] != 0) return;
        labels[index] = count;
        open.push_back(next);
      });
    }
  });
  return labels;
}

TEST(Components, EqualFloodFill) {
  std::uint64_t seed = 0;
  for (const double density : {0.02, 0.06, 0.1, 0.15, 0.4, 1.0}) {
    for (const Size& size : {Size{14, 11, 9}, Size{1, 30, 7}, Size{25, 1, 1}, Size{9, 9, 9}}) {
      const Mask mask = random_mask(size, density, seed++);
      const ZeroedVector<std::int32_t> expected = flood_fill(mask);
      const Components components = connected_components_26(mask);
      EXPECT_EQ(components.labels, expected);
      std::vector<std::int64_t> sizes(static_cast<std::size_t>(components.count) + 1);
      for (const std::int32_t label : expected) {
        if (label != 0) ++sizes.at(label);
      }
      EXPECT_EQ(components.sizes, sizes);
    }
  }
}

TEST(Components, MeasuresBoxes) {
  Mask mask({6, 5, 4});
  for (const Size& at : {Size{1, 1, 1}, Size{2, 2, 2}, Size{5, 0, 3}}) {
    mask.voxels[mask.index(at[0], at[1], at[2])] = 1;
  }
  const Components components = connected_components_26(mask);
  ASSERT_EQ(components.count, 2);
  EXPECT_EQ(components.box(1).low, (Size{1, 1, 1}));
  EXPECT_EQ(components.box(1).high, (Size{3, 3, 3}));
  EXPECT_EQ(components.box(2).low, (Size{5, 0, 3}));
  EXPECT_EQ(components.box(2).high, (Size{6, 1, 4}));
  EXPECT_EQ(components.voxels(1), 2);
}

// n dilations reach exactly the offsets with max |d| <= n and sum |d| <= 2n.
TEST(Dilation, ReachesTheStatedOffsets) {
  constexpr Size kSize = {15, 13, 14};
  constexpr Size kCenter = {7, 6, 6};
  Mask seed(kSize);
  seed.voxels[seed.index(kCenter[0], kCenter[1], kCenter[2])] = 1;
  for (int n = 0; n <= 5; ++n) {
    const Mask grown = dilate_18(seed, n);
    for_each_index(kSize, [&](std::int64_t x, std::int64_t y, std::int64_t z) {
      const std::int64_t dx = std::abs(x - kCenter[0]), dy = std::abs(y - kCenter[1]),
                         dz = std::abs(z - kCenter[2]);
      const bool expected = std::max({dx, dy, dz}) <= n && dx + dy + dz <= 2 * n;
      EXPECT_EQ(grown.voxels[grown.index(x, y, z)] != 0, expected)
          << n << " at " << x << " " << y << " " << z;
    });
  }
}

TEST(Dilation, IsClippedAtTheGrid) {
  Mask corner({3, 3, 3});
  corner.voxels[0] = 1;
  const Mask grown = dilate_18(corner, 1);
  EXPECT_EQ(count(grown), 7);  // the 2x2x2 block less its far corner
  EXPECT_EQ(grown.voxels[grown.index(1, 1, 1)], 0);
}

}  // namespace
}  // namespace segmamba::metrics
