#pragma once
// Which way the axes of a grid run. Three letters name the patient's side that the index axes
// (x, y, z) run towards, as nibabel's aff2axcodes does: L or R, P or A, S or I. BraTS is "LPS": x
// to the left, y to the back, z to the head. (Programs that name what an axis comes from, such as
// ITK-SNAP, call that grid "RAI".)

#include <array>
#include <cstddef>
#include <string>

#include "segmamba/io/volume.h"

namespace segmamba::io {

// A grid with its axes in another order or direction, and the same voxels: axis j of the new grid
// is axis `axis[j]` of the old one, from its end where reversed[j]. Axes are 0 to 2 of (x, y, z).
struct AxisMap {
  std::array<std::size_t, 3> axis{0, 1, 2};
  std::array<bool, 3> reversed{};

  bool operator==(const AxisMap&) const = default;
};

// Throws Error naming `orientation` where it is not three such letters.
void check_orientation(const std::string& orientation);

// The map to the grid whose axes run towards `orientation` but for the smallest rotation. An
// oblique grid that could be turned in several ways (45 degrees) is turned the same way whatever
// the order of its axes. Throws Error as check_orientation.
AxisMap axes_towards(const Geometry& geometry, const std::string& orientation);

// "LPS": what the axes run towards.
std::string orientation_of(const Geometry& geometry);

// The new grid: every voxel stays at its place in the world. Without the header of a file.
Geometry reoriented(const Geometry& geometry, const AxisMap& axes);

}  // namespace segmamba::io
