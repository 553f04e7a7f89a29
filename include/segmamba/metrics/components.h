#pragma once
// Connected components and dilation, as the lesion-wise scores use them.

#include <cstdint>
#include <vector>

#include "segmamba/metrics/mask.h"

namespace segmamba::metrics {

// Parts of a mask. Numbered from 1 in the order of their first voxel, x slowest and z fastest: the
// order in which the BraTS scripts number them (their arrays are indexed [x, y, z] in C order).
struct Components {
  Size size{};
  ZeroedVector<std::int32_t> labels;  // 0 outside
  Rows rows;                          // as Mask::rows
  std::int32_t count = 0;

  Box box(std::int32_t part) const { return boxes[static_cast<std::size_t>(part)]; }
  std::int64_t voxels(std::int32_t part) const { return sizes[static_cast<std::size_t>(part)]; }
  // Fills boxes and sizes from labels and count.
  void measure();

  std::vector<Box> boxes;           // [count + 1]; entry 0 unused
  std::vector<std::int64_t> sizes;  // [count + 1]; entry 0 unused
};

// Voxels are connected through faces, edges and corners.
Components connected_components_26(const Mask& mask);

// `iterations` times: a voxel becomes 1 where any voxel of its 3x3x3 neighbourhood less the eight
// corners is 1. What would lie outside the grid is lost.
Mask dilate_18(const Mask& mask, int iterations);

}  // namespace segmamba::metrics
