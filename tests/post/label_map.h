#pragma once
// Small label maps for the tests of this room.

#include <algorithm>
#include <cstdint>
#include <vector>

#include "segmamba/metrics/mask.h"
#include "segmamba/post/postprocess.h"

namespace segmamba::post {

inline const metrics::Region kWhole = {"WT", {1, 2, 3}}, kEnhancing = {"ET", {3}};

struct Map {
  metrics::Grid grid;
  std::vector<std::uint8_t> labels;

  explicit Map(const metrics::Size& size, std::uint8_t label = 0)
      : grid{size, {1, 1, 1}},
        labels(static_cast<std::size_t>(metrics::voxel_count(size)), label) {}
  std::uint8_t& at(std::int64_t x, std::int64_t y, std::int64_t z) {
    return labels[static_cast<std::size_t>((z * grid.size[1] + y) * grid.size[0] + x)];
  }
  std::uint8_t& at(const metrics::Size& place) { return at(place[0], place[1], place[2]); }
  void fill(const metrics::Size& low, const metrics::Size& high, std::uint8_t label) {
    for (std::int64_t z = low[2]; z < high[2]; ++z) {
      for (std::int64_t y = low[1]; y < high[1]; ++y) {
        for (std::int64_t x = low[0]; x < high[0]; ++x) at(x, y, z) = label;
      }
    }
  }
  Change apply(const Rule& rule) { return postprocess(labels, grid, {rule}).at(0); }
  std::int64_t count(std::uint8_t label) const {
    return std::count(labels.begin(), labels.end(), label);
  }
};

}  // namespace segmamba::post
