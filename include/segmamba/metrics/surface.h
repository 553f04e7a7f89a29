#pragma once
// Surfaces of masks and the distances between two of them.

#include <vector>

#include "segmamba/metrics/mask.h"

namespace segmamba::metrics {

enum class SurfaceKind {
  // Voxels with a face neighbour outside the mask; everything beyond the grid counts as outside.
  kFaceNeighbours,
  // Points of the lattice of voxel corners whose eight voxels are neither all inside nor all
  // outside, each with the area of a small triangulation (surface-distance, DeepMind).
  kVoxelCorners,
};

// From one surface to another, one entry a surface point.
struct DirectedDistances {
  std::vector<double> distances;  // mm; infinity where the other surface is empty
  std::vector<double> areas;      // mm^2, for kVoxelCorners; otherwise empty (all points count 1)
};

struct SurfaceDistances {
  DirectedDistances prediction_to_reference, reference_to_prediction;
};

// Both masks have one size.
SurfaceDistances surface_distances(const Mask& prediction, const Mask& reference, SurfaceKind kind,
                                   const Spacing& spacing);

// The surface voxels of kFaceNeighbours.
Mask face_surface(const Mask& mask);

// Area of the triangulation around a lattice point for each of the 256 patterns of its eight
// voxels; bit 4x + 2y + z of the pattern is the voxel on side (x, y, z) of the point.
std::vector<double> corner_areas(const Spacing& spacing);

}  // namespace segmamba::metrics
