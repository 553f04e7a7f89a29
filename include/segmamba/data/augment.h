#pragma once
// Random patches for training: crop, then augmentation. The same Random gives the same patch.

#include <array>
#include <cstdint>
#include <vector>

#include "segmamba/core/config.h"
#include "segmamba/core/random.h"
#include "segmamba/data/cases.h"

namespace segmamba::data {

// Section `augment` of a config. Mirroring, rotation and scaling default to the recipe of the
// published code.
struct AugmentConfig {
  double foreground_fraction = 0.33;  // share of patches centred on a random tumour voxel
  bool mirror = true;                 // each axis by itself, in half of the patches
  double rotation_probability = 0.2, rotation_degrees = 30;
  double scale_probability = 0.2, scale_min = 0.7, scale_max = 1.4;
  double brightness_probability = 0.15, brightness_sigma = 0.1;  // additive, per channel

  void visit(ConfigVisitor& visitor);
};

struct Patch {
  std::array<std::int64_t, 3> size{};  // [D, H, W]
  std::int64_t channels = 0;
  std::vector<float> image;          // [C, D, H, W]
  std::vector<std::uint8_t> labels;  // [D, H, W]; all 0 where the case has none
};

// A patch of exactly `size`; parts outside the case are 0 (background) before the brightness is
// changed. Every random number is drawn whether it is used or not, so that one augmentation can be
// switched off without changing the others. Throws Error where `size` is not positive.
Patch sample_patch(const CaseData& item, std::array<std::int64_t, 3> size,
                   const AugmentConfig& config, Random& random);

// The parts of sample_patch.

// The box of `size` voxels that begins at voxel `start` (which may be negative), copied.
Patch crop_patch(const CaseData& item, std::array<std::int64_t, 3> start,
                 std::array<std::int64_t, 3> size);

// A map of positions about the patch's centre, row-major in [z, y, x]: the patch's voxel at offset
// o from its centre shows the case at offset matrix * o. A scale above 1 therefore makes the tumour
// smaller in the patch, as in batchgenerators.
using SpatialMatrix = std::array<double, 9>;
// Rotations about z, y and x, in this order, then scaling. Radians.
SpatialMatrix make_spatial_matrix(std::array<double, 3> angles_zyx, double scale);

// The same box seen through `matrix`: image trilinear, labels nearest. Voxels come from the whole
// case, not from the box alone, so that turning leaves no empty corners inside the brain.
Patch resample_patch(const CaseData& item, std::array<std::int64_t, 3> start,
                     std::array<std::int64_t, 3> size, const SpatialMatrix& matrix);

// Reverses the given axes of image and labels.
void mirror_patch(Patch& patch, std::array<bool, 3> axes);

}  // namespace segmamba::data
