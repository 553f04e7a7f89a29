#pragma once
// Where the voxels of a prepared case's crop lie in the memory of its files' grid.

#include <cstdint>

#include "segmamba/data/prepared_case.h"

namespace segmamba::data {

// Voxel (d, h, w) of the crop at first + d * step[0] + h * step[1] + w * step[2].
struct CropLayout {
  std::int64_t first = 0;
  Index3 step{};

  std::int64_t row(std::int64_t d, std::int64_t h) const {
    return first + d * step[0] + h * step[1];
  }
};

inline CropLayout crop_layout(const PreparedCase& item) {
  const auto& size = item.geometry.size;
  const std::array<std::int64_t, 3> stride = {1, size[0], size[0] * size[1]};  // x, y, z
  CropLayout layout;
  for (std::size_t dimension = 0; dimension < 3; ++dimension) {
    const std::size_t axis = item.axes.axis[2 - dimension];
    const bool reversed = item.axes.reversed[2 - dimension];
    const std::int64_t begin = item.crop_begin[dimension];
    layout.first += (reversed ? size[axis] - 1 - begin : begin) * stride[axis];
    layout.step[dimension] = reversed ? -stride[axis] : stride[axis];
  }
  return layout;
}

}  // namespace segmamba::data
