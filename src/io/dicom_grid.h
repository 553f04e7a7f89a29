#pragma once
// The grid that the slices of a DICOM series form.

#include <cstddef>
#include <filesystem>
#include <vector>

#include "dicom_file.h"
#include "segmamba/io/volume.h"

namespace segmamba::io {

struct GridSlice {
  std::size_t file = 0, frame = 0;  // which of the files, and which of its frames
  double along = 0;                 // mm along the normal of the slices
};

// All frames in the order of their place along the normal: the cross product of the directions of
// a row and a column. Throws Error naming file or folder where a slice has no place, or differs in
// size, direction or pixel spacing.
std::vector<GridSlice> sort_slices(const std::vector<DicomFile>& files);

// Throws Error naming the slices where they are not evenly spaced, or shifted sideways.
Geometry grid_of(const std::filesystem::path& folder, const std::vector<DicomFile>& files,
                 const std::vector<GridSlice>& slices);

}  // namespace segmamba::io
