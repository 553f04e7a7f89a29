#pragma once
// The only door to ITK.

#include <filesystem>
#include <functional>
#include <span>
#include <variant>
#include <vector>

#include "nifti_header.h"

namespace segmamba::io {

// Voxels of any stored type, scaled (then float or double) where the header says so, x fastest.
using Voxels =
    std::variant<std::vector<std::uint8_t>, std::vector<std::int8_t>, std::vector<std::uint16_t>,
                 std::vector<std::int16_t>, std::vector<std::uint32_t>, std::vector<std::int32_t>,
                 std::vector<std::uint64_t>, std::vector<std::int64_t>, std::vector<float>,
                 std::vector<double>>;

// All voxels. Memory is taken only once the file has proved to hold what its header promises.
// Throws Error naming the file.
Voxels read_voxels(const NiftiFile& file);

// An uncompressed single-file NIfTI-1. Throws Error.
void write_nifti(const std::filesystem::path& path, const Geometry& geometry,
                 std::span<const float> voxels);
void write_nifti(const std::filesystem::path& path, const Geometry& geometry,
                 std::span<const std::uint8_t> voxels);

}  // namespace segmamba::io
