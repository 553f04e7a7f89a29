#pragma once
// Slices of a volume on pixels, turned as radiologists look at them.

#include <array>
#include <cstdint>
#include <vector>

#include "index_box.h"
#include "segmamba/io/orientation.h"
#include "segmamba/io/volume.h"

namespace segmamba::io {

// A slice plane in world terms: the axis it is normal to, and what its columns and rows run along.
struct Plane {
  std::size_t normal, column, row;
  bool row_from_above;  // rows run from the head down
};
// How the index axes lie in the world: axis w of L, P, S is index axis `axis[w]`.
inline AxisMap world_axes(const Geometry& geometry) { return axes_towards(geometry, "LPS"); }

// The patient's left is on the right, the front or the head on top; in sagittal slices the front is
// on the left.
inline constexpr std::array<Plane, 3> kPlanes = {
    Plane{2, 0, 1, false},  // axial
    Plane{1, 0, 2, true},   // coronal
    Plane{0, 1, 2, true},   // sagittal
};

// The part of one slice that lies in a box, on width x height pixels: which voxel each shows.
class Panel {
 public:
  // `slices`: the slice to show of each index axis.
  Panel(const Geometry& geometry, const Plane& plane, const IndexBox& box,
        const std::array<std::int64_t, 3>& slices, std::int64_t width, std::int64_t height);

  std::int64_t width() const { return std::ssize(columns_); }
  std::int64_t height() const { return std::ssize(rows_); }
  std::size_t voxel(std::int64_t column, std::int64_t row) const {
    return static_cast<std::size_t>(slice_ + columns_[static_cast<std::size_t>(column)] +
                                    rows_[static_cast<std::size_t>(row)]);
  }

 private:
  std::int64_t slice_ = 0;                    // offset of the slice in memory
  std::vector<std::int64_t> columns_, rows_;  // and of a pixel in the slice
};

}  // namespace segmamba::io
