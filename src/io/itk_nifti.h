#pragma once
// The only door to ITK.

#include <filesystem>
#include <span>

#include "nifti_header.h"

namespace segmamba::io {

// An uncompressed single-file NIfTI-1. Throws Error.
void write_nifti(const std::filesystem::path& path, const Geometry& geometry,
                 std::span<const float> voxels);
void write_nifti(const std::filesystem::path& path, const Geometry& geometry,
                 std::span<const std::uint8_t> voxels);

}  // namespace segmamba::io
