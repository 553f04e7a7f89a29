#pragma once
// Random patches for training: crop, then augmentation. The same Random gives the same patch.

#include <array>
#include <cstdint>
#include <vector>

#include "segmamba/core/config.h"
#include "segmamba/core/random.h"
#include "segmamba/data/cases.h"

namespace segmamba::data {

// Section `augment` of a config.
struct AugmentConfig {
  double foreground_fraction = 0.33;  // share of patches centred on a random tumour voxel
  bool mirror = true;
  double rotation_probability = 0.2, rotation_degrees = 30;
  double scale_probability = 0.2, scale_min = 0.7, scale_max = 1.4;
  double brightness_probability = 0.15, brightness_sigma = 0.1;  // additive, per channel

  void visit(ConfigVisitor& visitor);
};

struct Patch {
  std::array<std::int64_t, 3> size{};  // [D, H, W]
  std::int64_t channels = 0;
  std::vector<float> image;            // [C, D, H, W]
  std::vector<std::uint8_t> labels;    // [D, H, W]
};

// A patch of exactly `size`; parts outside the case are 0 (background).
Patch sample_patch(const CaseData& item, std::array<std::int64_t, 3> size,
                   const AugmentConfig& config, Random& random);

}  // namespace segmamba::data
