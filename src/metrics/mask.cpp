#include "segmamba/metrics/mask.h"

#include <algorithm>
#include <limits>

#include "segmamba/core/error.h"
#include "segmamba/core/text.h"

namespace segmamba::metrics {
namespace {

std::array<bool, 256> membership(const Region& region) {
  std::array<bool, 256> member{};
  for (const std::uint8_t label : region.labels) member[label] = true;
  return member;
}

}  // namespace

Box Box::united(const Box& other) const {
  if (other.empty()) return *this;
  if (empty()) return other;
  Box box;
  for (int axis = 0; axis < 3; ++axis) {
    box.low[axis] = std::min(low[axis], other.low[axis]);
    box.high[axis] = std::max(high[axis], other.high[axis]);
  }
  return box;
}

Box Box::grown(std::int64_t margin, const Size& size) const {
  if (empty()) return *this;
  Box box;
  for (int axis = 0; axis < 3; ++axis) {
    box.low[axis] = std::max<std::int64_t>(0, low[axis] - margin);
    box.high[axis] = std::min(size[axis], high[axis] + margin);
  }
  return box;
}

std::int64_t count(const Mask& mask) {
  return std::count(mask.voxels.begin(), mask.voxels.end(), std::uint8_t{1});
}

std::int64_t count_common(const Mask& a, const Mask& b) {
  const std::uint8_t *first = a.voxels.data(), *second = b.voxels.data();
  std::int64_t total = 0;
  for (std::size_t i = 0; i < a.voxels.size(); ++i) total += first[i] & second[i];
  return total;
}

Box bounding_box(std::span<const std::uint8_t> values, const Size& size) {
  constexpr std::int64_t kFar = std::numeric_limits<std::int64_t>::max();
  Box box{{kFar, kFar, kFar}, {0, 0, 0}};
  const std::int64_t nx = size[0];
  for (std::int64_t z = 0; z < size[2]; ++z) {
    for (std::int64_t y = 0; y < size[1]; ++y) {
      const std::uint8_t* row = values.data() + (z * size[1] + y) * nx;
      if (!any_set(row, nx)) continue;
      const auto nonzero = [](std::uint8_t value) { return value != 0; };
      const std::int64_t first = std::find_if(row, row + nx, nonzero) - row;
      std::int64_t last = nx;
      while (row[last - 1] == 0) --last;
      box.low = {std::min(box.low[0], first), std::min(box.low[1], y), std::min(box.low[2], z)};
      box.high = {std::max(box.high[0], last), std::max(box.high[1], y + 1), z + 1};
    }
  }
  return box.empty() ? Box{} : box;
}

std::vector<std::uint8_t> crop(std::span<const std::uint8_t> values, const Size& size,
                               const Box& box) {
  std::vector<std::uint8_t> out;
  if (box.empty()) return out;
  out.reserve(static_cast<std::size_t>(voxel_count(box.size())));
  for (std::int64_t z = box.low[2]; z < box.high[2]; ++z) {
    for (std::int64_t y = box.low[1]; y < box.high[1]; ++y) {
      const std::uint8_t* row = values.data() + (z * size[1] + y) * size[0];
      out.insert(out.end(), row + box.low[0], row + box.high[0]);
    }
  }
  return out;
}

const std::vector<Region>& brats_regions() {
  static const std::vector<Region> regions = {{"WT", {1, 2, 3}}, {"TC", {1, 3}}, {"ET", {3}}};
  return regions;
}

const std::vector<Region>& brats_tissues() {
  static const std::vector<Region> tissues = {{"NETC", {1}}, {"SNFH", {2}}, {"RC", {4}}};
  return tissues;
}

Mask region_mask(std::span<const std::uint8_t> labels, const Size& size, const Region& region) {
  constexpr std::size_t kFewLabels = 8;
  Mask mask(size);
  if (region.labels.size() <= kFewLabels) {  // comparisons are vectorised, look-ups are not
    const std::uint8_t* source = labels.data();
    std::uint8_t* target = mask.voxels.data();
    const std::size_t length = labels.size();
    for (const std::uint8_t wanted : region.labels) {
      for (std::size_t i = 0; i < length; ++i) {
        target[i] |= static_cast<std::uint8_t>(source[i] == wanted);
      }
    }
    return mask;
  }
  const auto member = membership(region);
  for (std::size_t i = 0; i < labels.size(); ++i) mask.voxels[i] = member[labels[i]] ? 1 : 0;
  return mask;
}

double dice(std::span<const std::uint8_t> prediction, std::span<const std::uint8_t> reference,
            const Region& region, double both_empty) {
  if (prediction.size() != reference.size()) {
    throw Error(concat("dice: the prediction has ", prediction.size(), " voxels and the reference ",
                       reference.size()));
  }
  const auto member = membership(region);
  std::int64_t common = 0, total = 0;
  for (std::size_t i = 0; i < prediction.size(); ++i) {
    const int p = member[prediction[i]], g = member[reference[i]];
    common += p & g;
    total += p + g;
  }
  if (total == 0) return both_empty;
  return 2.0 * static_cast<double>(common) / static_cast<double>(total);
}

}  // namespace segmamba::metrics
