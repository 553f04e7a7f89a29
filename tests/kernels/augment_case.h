#pragma once
// Cases in memory and transforms of their patches.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "augment.h"
#include "segmamba/core/half.h"
#include "segmamba/core/random.h"

namespace segmamba::testing {

using kernels::CaseView;
using kernels::kPositionOne;
using kernels::PatchTransform;
using kernels::SpatialMap;

struct AugmentCase {
  std::vector<std::uint16_t> image;
  std::vector<std::uint8_t> labels;
  CaseView view;

  AugmentCase(std::int32_t depth, std::int32_t height, std::int32_t width, std::int32_t channels) {
    Random random(7, static_cast<std::uint64_t>(channels));
    view.size[0] = depth;
    view.size[1] = height;
    view.size[2] = width;
    view.channels = channels;
    for (std::int32_t i = 0; i < depth * height * width; ++i) {
      // Blocks of a label, so that voxels with one and with many labels around them occur.
      const std::int32_t x = i % width, y = i / width % height, z = i / width / height;
      labels.push_back(static_cast<std::uint8_t>((x / 3 + 2 * (y / 4) + 3 * (z / 3)) % 4));
      for (std::int32_t c = 0; c < channels; ++c) {
        image.push_back(to_half(static_cast<float>(random.normal() + 0.3 * c)).bits);
      }
    }
    view.image = image.data();
    view.labels = labels.data();
  }
  AugmentCase(AugmentCase&&) = default;  // the memory of the vectors moves with them
  AugmentCase(const AugmentCase&) = delete;
  AugmentCase& operator=(const AugmentCase&) = delete;
};

// Turned, scaled and moved so that a part of the patch lies outside of the case.
inline PatchTransform turned(const AugmentCase& item, std::int32_t depth, std::int32_t height,
                             std::int32_t width) {
  PatchTransform transform;
  SpatialMap& map = transform.map;
  const std::int32_t size[3] = {depth, height, width};
  const double matrix[3][3] = {{0.9, -0.35, 0.2}, {0.3, 0.95, -0.25}, {-0.2, 0.3, -1.05}};
  for (int a = 0; a < 3; ++a) {
    map.size[a] = size[a];
    double origin = (0.5 * item.view.size[a] + 1.3) * kPositionOne;
    for (int b = 0; b < 3; ++b) {
      map.step[a][b] = static_cast<std::int32_t>(matrix[a][b] * kPositionOne);
      origin -= 0.5 * map.step[a][b] * (size[b] - 1);
    }
    map.origin[a] = static_cast<std::int32_t>(origin);
  }
  transform.channels.resize(static_cast<std::size_t>(item.view.channels));
  return transform;
}

inline PatchTransform copied(const AugmentCase& item, std::int32_t depth, std::int32_t height,
                             std::int32_t width, int mirrored) {
  PatchTransform transform;
  SpatialMap& map = transform.map;
  const std::int32_t size[3] = {depth, height, width}, begin[3] = {-2, 3, 1};
  map.is_copy = true;
  for (int a = 0; a < 3; ++a) {
    const bool mirror = (mirrored >> a & 1) != 0;
    map.size[a] = size[a];
    map.mirror[a] = mirror;
    map.step[a][a] = mirror ? -kPositionOne : kPositionOne;
    map.origin[a] = (begin[a] + (mirror ? size[a] - 1 : 0)) * kPositionOne;
  }
  transform.channels.resize(static_cast<std::size_t>(item.view.channels));
  return transform;
}

inline void deform(PatchTransform& transform) {
  SpatialMap& map = transform.map;
  map.is_copy = false;
  map.per_spacing = 1 / 5.5F;
  map.mirror[1] = true;
  std::int64_t count = 3;
  for (int b = 0; b < 3; ++b) {
    map.points[b] = static_cast<std::int32_t>((map.size[b] - 1) * map.per_spacing) + 4;
    count *= map.points[b];
  }
  Random random(5);
  for (std::int64_t i = 0; i < count; ++i) {
    transform.displacements.push_back(static_cast<float>(random.uniform(-2, 2)));
  }
}

}  // namespace segmamba::testing
