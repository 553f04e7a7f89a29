#include "scene.h"

#include <fstream>

#include "segmamba/core/text.h"

namespace segmamba::eval::testing {

io::Geometry small_geometry() {
  io::Geometry geometry;
  geometry.size = {12, 10, 8};
  geometry.spacing = {1, 1, 2};
  return geometry;
}

io::LabelMap tumour(std::int64_t shift) {
  io::LabelMap labels{small_geometry(), {}};
  labels.voxels.resize(static_cast<std::size_t>(labels.geometry.voxel_count()));
  const auto [nx, ny, nz] = labels.geometry.size;
  for (std::int64_t z = 2; z < 6; ++z) {
    for (std::int64_t y = 2; y < 8; ++y) {
      for (std::int64_t x = 2; x < 8; ++x) {
        const bool in_core = x >= 3 && x < 7 && y >= 3 && y < 7 && z >= 3 && z < 5;
        const bool is_enhancing = in_core && x < 5;
        labels.voxels[(z * ny + y) * nx + x + shift] = is_enhancing ? 3 : in_core ? 1 : 2;
      }
    }
  }
  return labels;
}

void put_labels(const std::filesystem::path& path, const io::LabelMap& labels) {
  std::filesystem::create_directories(path.parent_path());
  io::write_labels(path, labels);
}

void write_text(const std::filesystem::path& path, const std::string& text) {
  std::filesystem::create_directories(path.parent_path());
  std::ofstream(path) << text;
}

void write_data_set(const std::filesystem::path& folder) {
  for (int i = 0; i < 4; ++i) {
    const std::string name = concat("BraTS-GLI-0000", i, "-000");
    put_labels(folder / "reference" / name / (name + "-seg.nii.gz"), tumour());
    put_labels(folder / "prediction" / (name + ".nii.gz"), tumour(i));
  }
}

}  // namespace segmamba::eval::testing
