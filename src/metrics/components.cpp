#include "segmamba/metrics/components.h"

#include <algorithm>
#include <limits>
#include <memory>
#include <numeric>

#include "segmamba/metrics/runs.h"

namespace segmamba::metrics {
namespace {

// For each part its number from 1, by the first voxel with x slowest and z fastest.
std::vector<std::int32_t> numbers_of(const Runs& runs, const Parts& parts) {
  constexpr std::int64_t kFar = std::numeric_limits<std::int64_t>::max();
  std::vector<Size> first(parts.voxels.size(), Size{kFar, kFar, kFar});
  runs.for_each([&](const Run& run, std::int32_t place, std::int64_t y, std::int64_t z) {
    Size& known = first[parts.of_run[place]];
    known = std::min(known, Size{run.low, y, z});
  });
  std::vector<std::int32_t> order(first.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(),
            [&](std::int32_t a, std::int32_t b) { return first[a] < first[b]; });
  std::vector<std::int32_t> numbers(first.size());
  for (std::size_t i = 0; i < order.size(); ++i) {
    numbers[order[i]] = static_cast<std::int32_t>(i + 1);
  }
  return numbers;
}

// target |= source, for bytes.
void merge(std::uint8_t* target, const std::uint8_t* source, std::int64_t length) {
  for (std::int64_t i = 0; i < length; ++i) target[i] |= source[i];
}

Mask dilate_18_once(const Mask& mask) {
  const auto [nx, ny, nz] = mask.size;
  // The neighbourhood is the union of three 3x3 squares: xy, xz and yz. A row therefore takes, from
  // its own row and the four rows that share a face with it, their dilation along x, and from the
  // four diagonal rows only the voxel at the same x.
  Mask along_x(mask.size), out(mask.size);
  auto occupied = std::make_shared<std::vector<std::uint8_t>>(static_cast<std::size_t>(ny * nz));
  std::vector<std::uint8_t> is_set(static_cast<std::size_t>(ny * nz));  // row by row
  for (std::int64_t row = 0; row < ny * nz; ++row) {
    const std::uint8_t* source = mask.voxels.data() + row * nx;
    is_set[row] = mask.may_hold(row) && any_set(source, nx) ? 1 : 0;
    if (is_set[row] == 0) continue;
    std::uint8_t* target = along_x.voxels.data() + row * nx;
    merge(target, source, nx);
    merge(target, source + 1, nx - 1);
    merge(target + 1, source, nx - 1);
  }
  for (std::int64_t z = 0; z < nz; ++z) {
    for (std::int64_t y = 0; y < ny; ++y) {
      std::uint8_t* target = out.voxels.data() + out.index(0, y, z);
      for (std::int64_t dz = -1; dz <= 1; ++dz) {
        for (std::int64_t dy = -1; dy <= 1; ++dy) {
          if (z + dz < 0 || z + dz >= nz || y + dy < 0 || y + dy >= ny) continue;
          if (is_set[(z + dz) * ny + y + dy] == 0) continue;
          (*occupied)[z * ny + y] = 1;
          const Mask& source = dy != 0 && dz != 0 ? mask : along_x;
          merge(target, source.voxels.data() + source.index(0, y + dy, z + dz), nx);
        }
      }
    }
  }
  out.rows = std::move(occupied);
  return out;
}

}  // namespace

void Components::measure() {
  constexpr std::int64_t kFar = std::numeric_limits<std::int64_t>::max();
  const auto entries = static_cast<std::size_t>(count) + 1;
  boxes.assign(entries, Box{{kFar, kFar, kFar}, {0, 0, 0}});
  sizes.assign(entries, 0);
  for (std::int64_t z = 0; z < size[2]; ++z) {
    for (std::int64_t y = 0; y < size[1]; ++y) {
      const std::int64_t place = z * size[1] + y;
      const std::int32_t* row = labels.data() + place * size[0];
      if (rows && (*rows)[static_cast<std::size_t>(place)] == 0) continue;
      if (!any_set(row, size[0])) continue;
      for (std::int64_t x = 0; x < size[0]; ++x) {
        if (row[x] == 0) continue;
        Box& box = boxes[row[x]];
        box.low = {std::min(box.low[0], x), std::min(box.low[1], y), std::min(box.low[2], z)};
        box.high = {std::max(box.high[0], x + 1), std::max(box.high[1], y + 1), z + 1};
        ++sizes[row[x]];
      }
    }
  }
}

Components connected_components_26(const Mask& mask) {
  const Runs runs = runs_of(mask);
  const Parts parts = connected_parts(runs, Connectivity::kCorners);
  const std::vector<std::int32_t> numbers = numbers_of(runs, parts);
  Components components;
  components.size = mask.size;
  components.rows = mask.rows;
  components.labels.resize(mask.voxels.size());
  components.count = parts.count();
  runs.for_each([&](const Run& run, std::int32_t place, std::int64_t y, std::int64_t z) {
    std::int32_t* row = components.labels.data() + mask.index(0, y, z);
    std::fill(row + run.low, row + run.high, numbers[parts.of_run[place]]);
  });
  components.measure();
  return components;
}

Mask dilate_18(const Mask& mask, int iterations) {
  Mask out = mask;
  for (int i = 0; i < iterations; ++i) out = dilate_18_once(out);
  return out;
}

}  // namespace segmamba::metrics
