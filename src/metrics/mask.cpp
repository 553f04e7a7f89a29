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
  const std::int64_t nx = mask.size[0];
  std::int64_t total = 0;
  for (std::int64_t row = 0; row < mask.row_count(); ++row) {
    if (!mask.may_hold(row)) continue;
    const std::uint8_t* voxels = mask.voxels.data() + row * nx;
    total += std::count(voxels, voxels + nx, std::uint8_t{1});
  }
  return total;
}

std::int64_t count_common(const Mask& a, const Mask& b) {
  const std::int64_t nx = a.size[0];
  std::int64_t total = 0;
  for (std::int64_t row = 0; row < a.row_count(); ++row) {
    if (!a.may_hold(row) || !b.may_hold(row)) continue;
    const std::uint8_t *first = a.voxels.data() + row * nx, *second = b.voxels.data() + row * nx;
    for (std::int64_t x = 0; x < nx; ++x) total += first[x] & second[x];
  }
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

Rows labelled_rows(std::span<const std::uint8_t> labels, const Size& size) {
  auto rows = std::make_shared<std::vector<std::uint8_t>>();
  rows->reserve(static_cast<std::size_t>(size[1] * size[2]));
  for (std::int64_t row = 0; row < size[1] * size[2]; ++row) {
    rows->push_back(any_set(labels.data() + row * size[0], size[0]) ? 1 : 0);
  }
  return rows;
}

Mask region_mask(std::span<const std::uint8_t> labels, const Size& size, const Region& region,
                 Rows rows) {
  constexpr std::size_t kFewLabels = 8;
  const auto member = membership(region);
  const std::int64_t nx = size[0];
  Mask mask(size);
  mask.rows = std::move(rows);
  for (std::int64_t row = 0; row < mask.row_count(); ++row) {
    if (!mask.may_hold(row)) continue;
    const std::uint8_t* source = labels.data() + row * nx;
    std::uint8_t* target = mask.voxels.data() + row * nx;
    if (region.labels.size() > kFewLabels) {
      for (std::int64_t x = 0; x < nx; ++x) target[x] = member[source[x]] ? 1 : 0;
      continue;
    }
    for (const std::uint8_t wanted : region.labels) {  // comparisons are vectorised, look-ups not
      for (std::int64_t x = 0; x < nx; ++x) {
        target[x] |= static_cast<std::uint8_t>(source[x] == wanted);
      }
    }
  }
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
