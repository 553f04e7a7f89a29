#pragma once
// A case as training and inference take it: turned, cropped, resampled, normalised, in 16-bit
// floats.

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "segmamba/core/half.h"
#include "segmamba/io/orientation.h"
#include "segmamba/io/volume.h"

namespace segmamba::data {

// Voxels or sizes in the order of memory, [D, H, W] = [z, y, x].
using Index3 = std::array<std::int64_t, 3>;

inline std::int64_t volume_of(const Index3& size) { return size[0] * size[1] * size[2]; }

// The voxels lie in `storage`, which is memory or a mapped file; copies share them.
struct PreparedCase {
  std::string name;
  io::Geometry geometry;  // of the files' whole grid, (x, y, z)
  io::AxisMap axes;       // from that to the orientation that all below is in
  Index3 crop_begin{};    // the part of the turned grid that was kept, [D, H, W]
  Index3 crop_size{};
  std::array<double, 3> spacing{1, 1, 1};  // of the prepared grid, mm, [D, H, W]

  Index3 size{};  // of the prepared grid; equal to crop_size where nothing is resampled
  std::int64_t channels = 0;
  // [D, H, W, C]: the channels of a voxel lie together, so that one look-up serves them all. A
  // normalised value lies near 0, where 16 bits round by less than a thousandth of a standard
  // deviation.
  std::span<const Half> image;
  std::span<const std::uint8_t> labels;  // [D, H, W], classes; empty where the case has none
  // Voxels of each class in each slice, [D, K]; empty without labels. Finds a random voxel of a
  // class by looking at one slice.
  std::vector<std::int32_t> class_counts;
  // [C]: what voxels beyond the grid are. What was cropped away was 0 in the files, and is the
  // normalised value of that; where nothing was cropped, 0.
  std::vector<float> outside;
  std::int64_t classes = 0;  // K

  std::shared_ptr<const void> storage;
};

}  // namespace segmamba::data
