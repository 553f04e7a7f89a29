#pragma once
// How large the parts of a segmentation are.

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "segmamba/metrics/mask.h"

namespace segmamba::metrics {

struct RegionVolume {
  std::string name;
  std::int64_t voxels = 0;
  double ml = 0;  // millilitres
};

// Of each region in labels on a grid with orthogonal axes and this spacing. One pass, no memory.
std::vector<RegionVolume> region_volumes(std::span<const std::uint8_t> labels,
                                         const Spacing& spacing,
                                         const std::vector<Region>& regions);

}  // namespace segmamba::metrics
