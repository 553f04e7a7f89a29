#include "slice_view.h"

#include <algorithm>
#include <cmath>

namespace segmamba::io {
namespace {

// The offset in memory of what each of `count` pixels along a world axis shows.
std::vector<std::int64_t> offsets(const Range& range, std::int64_t stride, std::int64_t count,
                                  bool backwards) {
  std::vector<std::int64_t> result(static_cast<std::size_t>(count));
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t voxel = std::min(i * range.length() / count, range.length() - 1);
    result[static_cast<std::size_t>(i)] =
        stride * (backwards ? range.high - 1 - voxel : range.low + voxel);
  }
  return result;
}

}  // namespace

Panel::Panel(const Geometry& geometry, const Plane& plane, const IndexBox& box,
             const std::array<std::int64_t, 3>& slices, std::int64_t width, std::int64_t height) {
  const AxisMap axes = world_axes(geometry);
  const std::array<std::int64_t, 3> strides = {1, geometry.size[0],
                                               geometry.size[0] * geometry.size[1]};
  const std::size_t normal = axes.axis[plane.normal];
  const std::size_t column = axes.axis[plane.column], row = axes.axis[plane.row];
  slice_ = slices[normal] * strides[normal];
  columns_ = offsets(box[column], strides[column], width, axes.reversed[plane.column]);
  rows_ = offsets(box[row], strides[row], height, axes.reversed[plane.row] != plane.row_from_above);
}

}  // namespace segmamba::io
