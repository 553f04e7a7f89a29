#pragma once
// From the crop that a prepared case was made of back to the grid of its files, exactly: what
// preparing has cut out and turned is put back. (What it has resampled is the caller's to bring to
// crop_size first.)

#include <cstdint>
#include <span>
#include <vector>

#include "segmamba/data/prepared_case.h"
#include "segmamba/io/volume.h"

namespace segmamba::data {

// Of std::uint8_t, Half and float.
//
// Slices first, first + 1, ... of the crop, each [H, W] of crop_size, into the grid of the files,
// [D, H, W] of geometry.size. Other voxels of it are left alone.
template <class T>
void restore_slices(const PreparedCase& item, std::int64_t first, std::span<const T> slices,
                    std::span<T> full);

// The whole crop, [D, H, W] of crop_size, in the grid of the files; `outside` around it.
template <class T>
std::vector<T> restore(const PreparedCase& item, std::span<const T> values, T outside = {});

// Classes as a label map of the files' geometry, 0 around the crop.
io::LabelMap restore_labels(const PreparedCase& item, std::span<const std::uint8_t> labels);

}  // namespace segmamba::data
