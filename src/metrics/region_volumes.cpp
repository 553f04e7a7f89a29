#include "segmamba/metrics/region_volumes.h"

#include <algorithm>
#include <array>
#include <set>

namespace segmamba::metrics {
namespace {

// How many voxels have each label.
std::array<std::int64_t, 256> histogram(std::span<const std::uint8_t> labels) {
  std::array<std::int64_t, 256> counts{};
  constexpr std::size_t kRun = 64;
  while (!labels.empty()) {
    const auto run = labels.first(std::min(kRun, labels.size()));
    if (any_set(run.data(), std::ssize(run))) {
      for (const std::uint8_t label : run) ++counts[label];
    } else {
      counts[0] += std::ssize(run);
    }
    labels = labels.subspan(run.size());
  }
  return counts;
}

}  // namespace

std::vector<RegionVolume> region_volumes(std::span<const std::uint8_t> labels,
                                         const Spacing& spacing,
                                         const std::vector<Region>& regions) {
  constexpr double kCubicMillimetres = 1000;  // in a millilitre
  const double voxel_ml = spacing[0] * spacing[1] * spacing[2] / kCubicMillimetres;
  const auto counts = histogram(labels);
  std::vector<RegionVolume> volumes;
  for (const Region& region : regions) {
    RegionVolume& volume = volumes.emplace_back(RegionVolume{.name = region.name});
    // A label that is named twice counts once.
    for (const std::uint8_t label : std::set(region.labels.begin(), region.labels.end())) {
      volume.voxels += counts[label];
    }
    volume.ml = static_cast<double>(volume.voxels) * voxel_ml;
  }
  return volumes;
}

}  // namespace segmamba::metrics
