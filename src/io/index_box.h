#pragma once
// Boxes of voxels.

#include <array>
#include <cstdint>

namespace segmamba::io {

// Voxels low <= index < high along one axis of the file.
struct Range {
  std::int64_t low = 0, high = 0;
  std::int64_t length() const { return high - low; }
};
using IndexBox = std::array<Range, 3>;  // (x, y, z)

}  // namespace segmamba::io
