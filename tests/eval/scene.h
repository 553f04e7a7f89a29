#pragma once
// Small label files for the tests of this room.

#include <filesystem>
#include <string>

#include "segmamba/io/volume.h"

namespace segmamba::eval::testing {

// A grid of 12x10x8 voxels of 1x1x2 mm.
io::Geometry small_geometry();
// A tumour of labels 1, 2 and 3, moved by `shift` voxels along x.
io::LabelMap tumour(std::int64_t shift = 0);

// Creates the folders of `path` and writes.
void put_labels(const std::filesystem::path& path, const io::LabelMap& labels);
void write_text(const std::filesystem::path& path, const std::string& text);

// Four cases in `folder`/reference as BraTS folders and in `folder`/prediction as CASE.nii.gz.
void write_data_set(const std::filesystem::path& folder);

}  // namespace segmamba::eval::testing
