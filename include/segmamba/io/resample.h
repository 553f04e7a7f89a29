#pragma once
// A volume in the grid of another one, by their places in the world.

#include "segmamba/io/volume.h"

namespace segmamba::io {

// The voxels of `grid`, with its header: trilinear between the voxels of the image, of labels the
// nearest voxel. Half a voxel around the outer centres, up to the faces of the image, the edge is
// continued; beyond lies 0. Where a voxel lies on one of the image, to 1e-4 of a voxel, it is that
// one exactly. Throws Error where the two do not overlap anywhere.
Image resample_into(const Geometry& grid, const Image& image);
LabelMap resample_into(const Geometry& grid, const LabelMap& labels);

}  // namespace segmamba::io
