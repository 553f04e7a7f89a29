#pragma once
// Volumes as a viewer shows them: axes along the patient's left, posterior and superior (LPS), cut
// to what is not empty, and coarser than the file's where they must be small.

#include <array>
#include <cstdint>
#include <vector>

#include "index_box.h"
#include "segmamba/io/volume.h"

namespace segmamba::io {

// The voxels that are not 0 in some image or in the labels, with a margin; all where there are
// none. The images have the size of the labels.
IndexBox content_box(const LabelMap& labels, const std::vector<const Image*>& images);

struct DisplayAxis {
  std::size_t file_axis = 0;
  bool reversed = false;   // runs against the file's axis
  Range range;             // of the file's voxels that are shown
  std::int64_t count = 0;  // of voxels that show them, at most range.length()
};

struct DisplayGrid {
  std::array<DisplayAxis, 3> axes;  // along L, P and S

  std::int64_t voxel_count() const { return axes[0].count * axes[1].count * axes[2].count; }
};

// Voxels of about `spacing` mm, and none finer than the file's.
DisplayGrid display_grid(const Geometry& geometry, const IndexBox& box, double spacing);

// Both in the order [S, P, L], L fastest.
// Means over the voxels of the grid; values that are not finite count as 0.
std::vector<float> reduce_image(const Image& image, const DisplayGrid& grid);
// Of a voxel that is at least half labelled, the label with the largest share. No lesion is lost:
// each labelled voxel of the file has one of its label in the grid at its place or beside it,
// unless a label with fewer voxels in the file needs that place.
std::vector<std::uint8_t> reduce_labels(const LabelMap& labels, const DisplayGrid& grid);

}  // namespace segmamba::io
