#include "segmamba/metrics/components.h"

#include <algorithm>
#include <array>
#include <limits>
#include <memory>
#include <numeric>

namespace segmamba::metrics {
namespace {

// A stretch of ones along x.
struct Run {
  std::int64_t low, high;  // low <= x < high
};

class DisjointSets {
 public:
  std::int32_t add() {
    parents_.push_back(static_cast<std::int32_t>(parents_.size()));
    return parents_.back();
  }
  std::int32_t root(std::int32_t item) {
    while (parents_[item] != item) item = parents_[item] = parents_[parents_[item]];
    return item;
  }
  void join(std::int32_t a, std::int32_t b) {
    a = root(a);
    b = root(b);
    parents_[std::max(a, b)] = std::min(a, b);
  }
  std::size_t size() const { return parents_.size(); }

 private:
  std::vector<std::int32_t> parents_;
};

// Numbers roots from 1 by their first voxel with x slowest and z fastest.
std::vector<std::int32_t> number_roots(const std::vector<Size>& first_voxel, DisjointSets& sets) {
  std::vector<Size> first_of_root = first_voxel;
  std::vector<std::int32_t> roots;
  for (std::int32_t run = 0; run < static_cast<std::int32_t>(sets.size()); ++run) {
    const std::int32_t root = sets.root(run);
    if (root == run) {
      roots.push_back(run);
    } else {
      first_of_root[root] = std::min(first_of_root[root], first_voxel[run]);
    }
  }
  std::sort(roots.begin(), roots.end(),
            [&](std::int32_t a, std::int32_t b) { return first_of_root[a] < first_of_root[b]; });
  std::vector<std::int32_t> number(sets.size());
  for (std::size_t i = 0; i < roots.size(); ++i) {
    number[roots[i]] = static_cast<std::int32_t>(i + 1);
  }
  return number;
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
  const auto [nx, ny, nz] = mask.size;
  // Runs along x are joined with the runs they touch in the four rows before them.
  std::vector<Run> runs;
  std::vector<Size> first_voxel;
  std::vector<std::int32_t> row_start(static_cast<std::size_t>(ny * nz) + 1);
  DisjointSets sets;
  constexpr std::array<std::array<std::int64_t, 2>, 4> kEarlierRows = {
      {{-1, 0}, {-1, -1}, {0, -1}, {1, -1}}};  // (dy, dz)
  for (std::int64_t z = 0; z < nz; ++z) {
    for (std::int64_t y = 0; y < ny; ++y) {
      const std::int64_t row = z * ny + y;
      row_start[row] = static_cast<std::int32_t>(runs.size());
      const std::uint8_t* voxels = mask.voxels.data() + row * nx;
      const bool is_empty = !mask.may_hold(row) || !any_set(voxels, nx);
      for (std::int64_t x = is_empty ? nx : 0; x < nx;) {
        if (voxels[x] == 0) {
          ++x;
          continue;
        }
        const std::int64_t low = x;
        while (x < nx && voxels[x] != 0) ++x;
        runs.push_back({low, x});
        first_voxel.push_back({low, y, z});
        sets.add();
      }
      row_start[row + 1] = static_cast<std::int32_t>(runs.size());
      for (const auto& [dy, dz] : kEarlierRows) {
        if (y + dy < 0 || y + dy >= ny || z + dz < 0) continue;
        const std::int64_t other_row = (z + dz) * ny + y + dy;
        std::int32_t own = row_start[row], other = row_start[other_row];
        while (own < row_start[row + 1] && other < row_start[other_row + 1]) {
          const Run &a = runs[own], &b = runs[other];
          if (a.low <= b.high && b.low <= a.high) sets.join(own, other);  // also corner to corner
          if (a.high < b.high) {
            ++own;
          } else {
            ++other;
          }
        }
      }
    }
  }

  const std::vector<std::int32_t> number = number_roots(first_voxel, sets);
  Components components;
  components.size = mask.size;
  components.rows = mask.rows;
  components.labels.resize(mask.voxels.size());
  for (std::int64_t row = 0; row < ny * nz; ++row) {
    for (std::int32_t run = row_start[row]; run < row_start[row + 1]; ++run) {
      const std::int32_t label = number[sets.root(run)];
      components.count = std::max(components.count, label);
      std::fill(components.labels.begin() + row * nx + runs[run].low,
                components.labels.begin() + row * nx + runs[run].high, label);
    }
  }
  components.measure();
  return components;
}

Mask dilate_18(const Mask& mask, int iterations) {
  Mask out = mask;
  for (int i = 0; i < iterations; ++i) out = dilate_18_once(out);
  return out;
}

}  // namespace segmamba::metrics
