#pragma once
// The grid that a NIfTI header describes, and the header that describes a grid.

#include "nifti_header.h"
#include "segmamba/io/volume.h"

namespace segmamba::io {

// The grid of a file: by its sform where it is set, else qform, else spacing alone (as nibabel
// chooses). Direction cosines that are orthonormal only nearly are replaced by the nearest
// orthonormal ones. Throws Error where they are sheared.
Geometry geometry_of(const NiftiFile& file);
// Tells what was done to the directions of `path`, where it is more than rounding explains.
void log_repair(const std::filesystem::path& path, const DirectionRepair& repair);

// Sizes and place of a 3-D volume in this grid, with nothing about its voxels. That of the header
// the geometry came with, bit for bit, version and units included, where that still describes it
// (it may have been resampled); else as made_header.
NiftiHeader header_for(const Geometry& geometry);

// The same made from the numbers alone: sform and qform with the code of the scanner's coordinates,
// NIfTI-1 where the sizes allow it. `sform_errors`: added to the direction cosines in the sform.
NiftiHeader made_header(const Geometry& geometry, const std::array<double, 9>& sform_errors = {});

}  // namespace segmamba::io
