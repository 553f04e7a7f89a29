#pragma once
// Prepared cases made up in memory.

#include <memory>
#include <string>
#include <utility>

#include "segmamba/core/random.h"
#include "segmamba/data/preprocess.h"

namespace segmamba::test {

// channels: each [D, H, W], kept as they are but for rounding to 16 bits.
inline data::PreparedCase prepared_case(const data::Index3& size,
                                        std::vector<std::vector<float>> channels,
                                        std::vector<std::uint8_t> labels, std::int64_t classes) {
  data::PreprocessConfig config;
  config.crop_to_nonzero = false;
  config.normalise = "statistics";
  config.means.assign(channels.size(), 0);
  config.deviations.assign(channels.size(), 1);
  data::RawCase raw;
  raw.name = "case";
  raw.geometry.size = {size[2], size[1], size[0]};
  raw.channels = std::move(channels);
  raw.labels = std::move(labels);
  raw.classes = classes;
  return data::prepare_case(std::move(raw), config);
}

// Normal random voxels; class k > 0 in one voxel out of 10 k.
inline data::PreparedCase prepared_case(const data::Index3& size, std::int64_t channels = 2,
                                        std::int64_t classes = 3, std::uint64_t seed = 1) {
  Random random(seed);
  const auto voxels = static_cast<std::size_t>(data::volume_of(size));
  std::vector<std::vector<float>> images;
  for (std::int64_t c = 0; c < channels; ++c) {
    images.emplace_back(voxels);
    for (float& value : images.back()) value = static_cast<float>(random.normal());
  }
  std::vector<std::uint8_t> labels(voxels, 0);
  for (std::int64_t k = 1; k < classes; ++k) {
    for (auto& label : labels) {
      if (random.chance(0.1 / static_cast<double>(k))) label = static_cast<std::uint8_t>(k);
    }
  }
  return prepared_case(size, std::move(images), std::move(labels), classes);
}

}  // namespace segmamba::test
