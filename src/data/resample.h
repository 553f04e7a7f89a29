#pragma once
// Separable resampling of a box onto another number of voxels with the same outer faces.

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "segmamba/data/prepared_case.h"

namespace segmamba::data {

enum class Interpolation { kNearest, kLinear, kCubic };
Interpolation interpolation_of(const std::string& name);  // "nearest", "linear", "cubic"

// values [D, H, W] of size `from` -> size `to`. Voxel i of n new ones lies at (i + 1/2) * from/n -
// 1/2 of the old; beyond the outer voxels' centres the edge is continued. Cubic is the
// interpolating cubic B-spline (Unser, "Splines: a perfect fit for signal and image processing",
// 1999) with mirror boundaries; it may overshoot. `along` gives the interpolation of each axis. An
// axis whose size stays is left alone.
std::vector<float> resample(std::vector<float> values, const Index3& from, const Index3& to,
                            const std::array<Interpolation, 3>& along);

// Of labels: the class of the greatest interpolated one-hot value (the lower class of equal ones),
// so that no class appears that is not there, unlike rounding. Cubic is not allowed.
std::vector<std::uint8_t> resample_labels(std::span<const std::uint8_t> labels, const Index3& from,
                                          const Index3& to,
                                          const std::array<Interpolation, 3>& along);

}  // namespace segmamba::data
