#pragma once
// Voxels of a NIfTI file, straight into memory.

#include <variant>
#include <vector>

#include "nifti_header.h"

namespace segmamba::io {

// Voxels of any stored type, x fastest. Where the header scales them they are float (double for
// stored doubles), computed in double.
using Voxels =
    std::variant<std::vector<std::uint8_t>, std::vector<std::int8_t>, std::vector<std::uint16_t>,
                 std::vector<std::int16_t>, std::vector<std::uint32_t>, std::vector<std::int32_t>,
                 std::vector<std::uint64_t>, std::vector<std::int64_t>, std::vector<float>,
                 std::vector<double>>;

// The voxels of `count` volumes from volume `first` on. Memory grows with what the file holds, not
// with what its header promises. Throws Error naming the file, and NotFiniteError for voxels that
// are NaN or infinite.
Voxels read_voxels(const NiftiFile& file, std::int64_t first, std::int64_t count);

}  // namespace segmamba::io
