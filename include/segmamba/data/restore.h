#pragma once
// From the crop that a prepared case was made of back to the grid of its files, exactly: what
// preparing has cut out and turned is put back. (What it has resampled is the caller's to bring to
// crop_size first.)

#include <cstdint>
#include <span>

#include "segmamba/data/prepared_case.h"

namespace segmamba::data {

// Of std::uint8_t and Half.
//
// Slices first, first + 1, ... of the crop, each [H, W] of crop_size, into the grid of the files,
// [D, H, W] of geometry.size. Other voxels of it are left alone. Throws Error where sizes do not
// fit.
template <class T>
void restore_slices(const PreparedCase& item, std::int64_t first, std::span<const T> slices,
                    std::span<T> full);

}  // namespace segmamba::data
