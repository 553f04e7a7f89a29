#pragma once
// The BraTS 2024 script hands images of lesion numbers (1, 2, 3, ...) to formulas that mean masks
// of 0 and 1. These are the numbers that come out, so that a table of that script can be checked;
// they mean nothing unless both sides hold at most one lesion, numbered 1.

#include <cstdint>
#include <vector>

#include "segmamba/metrics/mask.h"
#include "segmamba/metrics/surface.h"

namespace segmamba::metrics {

struct LesionNumbers {
  Size size{};
  ZeroedVector<std::int32_t> numbers;  // x fastest; 0 outside
};

// Lattice points of voxel corners, as kVoxelCorners. The pattern of a point is the sum of its eight
// numbers, each times the bit of its voxel, modulo 256.
SurfaceDistances numbered_surface_distances(const LesionNumbers& prediction,
                                            const LesionNumbers& reference, const Spacing& spacing);

// TP / (sum of the reference's numbers), TP: voxels numbered 1 on both sides; 1 where both are
// empty.
double numbered_sensitivity(const LesionNumbers& prediction, const LesionNumbers& reference);
// TN / (TN + sum of the prediction's numbers - TP), TN: voxels numbered 1 on neither side, of a
// grid of `voxels`.
double numbered_specificity(const LesionNumbers& prediction, const LesionNumbers& reference,
                            std::int64_t voxels);

}  // namespace segmamba::metrics
