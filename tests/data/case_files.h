#pragma once
// Small cases on disk, to be broken by the tests.

#include <filesystem>
#include <functional>
#include <string>

#include "segmamba/data/dataset.h"
#include "segmamba/io/volume.h"

namespace segmamba::test {

inline constexpr std::array<std::int64_t, 3> kCaseSize = {6, 5, 4};  // x, y, z

inline io::Geometry case_geometry() {
  io::Geometry geometry;
  geometry.size = kCaseSize;
  return geometry;
}

// Voxel (x, y, z) of an image whose box of non-zero voxels is x 1..4, y 1..3, z 1..2.
inline io::Image case_image(float scale) {
  io::Image image{case_geometry(), std::vector<float>(6 * 5 * 4, 0)};
  float value = 1;
  for (std::size_t z = 1; z <= 2; ++z) {
    for (std::size_t y = 1; y <= 3; ++y) {
      for (std::size_t x = 1; x <= 4; ++x) image.voxels[(z * 5 + y) * 6 + x] = scale * value++;
    }
  }
  return image;
}

// Necrosis, oedema and enhancing tumour in one voxel each; with a `number` from 2 to 5, a voxel of
// oedema more, at another place for each.
inline io::LabelMap case_labels(int number = 1) {
  io::LabelMap labels{case_geometry(), std::vector<std::uint8_t>(6 * 5 * 4, 0)};
  labels.voxels[(1 * 5 + 1) * 6 + 1] = 1;
  labels.voxels[(1 * 5 + 1) * 6 + 2] = 2;
  labels.voxels[(2 * 5 + 3) * 6 + 4] = 3;
  if (number > 1) labels.voxels[static_cast<std::size_t>((1 * 5 + 2) * 6 + number - 1)] = 2;
  return labels;
}

inline std::filesystem::path case_file(const std::filesystem::path& root, const std::string& name,
                                       const std::string& channel) {
  return root / name / (name + "-" + channel + ".nii.gz");
}

// A case whose files differ from each other and from those of a case with another `number`.
inline void write_case(const std::filesystem::path& root, const std::string& name, int number = 1) {
  std::filesystem::create_directories(root / name);
  for (std::size_t i = 0; i < data::kBratsChannels.size(); ++i) {
    const auto scale = static_cast<float>(4 * number + static_cast<int>(i));
    io::write_image(case_file(root, name, data::kBratsChannels[i]), case_image(scale));
  }
  io::write_labels(case_file(root, name, "seg"), case_labels(number));
}

}  // namespace segmamba::test
