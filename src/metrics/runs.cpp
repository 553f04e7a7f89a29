#include "segmamba/metrics/runs.h"

#include <algorithm>
#include <array>
#include <limits>

#include "segmamba/core/error.h"
#include "segmamba/core/text.h"

namespace segmamba::metrics {
namespace {

class DisjointSets {
 public:
  explicit DisjointSets(std::size_t count) : parents_(count) {
    for (std::size_t i = 0; i < count; ++i) parents_[i] = static_cast<std::int32_t>(i);
  }
  std::int32_t root(std::int32_t item) {
    while (parents_[item] != item) item = parents_[item] = parents_[parents_[item]];
    return item;
  }
  // The lower root becomes that of both.
  void join(std::int32_t a, std::int32_t b) {
    a = root(a);
    b = root(b);
    parents_[std::max(a, b)] = std::min(a, b);
  }

 private:
  std::vector<std::int32_t> parents_;
};

// The rows before a row that it may be connected to. Those that share a face with it come first.
struct EarlierRow {
  std::int64_t dy, dz;
};
constexpr std::array<EarlierRow, 4> kEarlierRows = {{{-1, 0}, {0, -1}, {-1, -1}, {1, -1}}};
constexpr std::size_t kFaceRows = 2;

// Joins what touches in two rows. `reach`: by how much two runs may miss each other along x.
void join_rows(const Runs& runs, std::int64_t row, std::int64_t other_row, std::int32_t reach,
               DisjointSets& sets) {
  std::int32_t own = runs.row_begin(row), other = runs.row_begin(other_row);
  while (own < runs.row_end(row) && other < runs.row_end(other_row)) {
    const Run &a = runs.all()[own], &b = runs.all()[other];
    if (a.low < b.high + reach && b.low < a.high + reach) sets.join(own, other);
    if (a.high < b.high) {
      ++own;
    } else {
      ++other;
    }
  }
}

}  // namespace

Runs::Runs(const Size& size) : size_(size) {
  if (size[0] >= std::numeric_limits<std::int32_t>::max()) {
    throw Error(concat("a grid of ", join(size, "x"), " voxels is too long along x"));
  }
  row_ends_.reserve(static_cast<std::size_t>(row_count()));
}

Runs runs_of(const Mask& mask) {
  Runs runs(mask.size);
  const std::int64_t nx = mask.size[0];
  for (std::int64_t row = 0; row < mask.row_count(); ++row) {
    const std::uint8_t* voxels = mask.voxels.data() + row * nx;
    if (!mask.may_hold(row) || !any_set(voxels, nx)) {
      runs.add_empty_row();
    } else {
      runs.add_row(0, nx, [&](std::int64_t x) { return voxels[x] != 0; });
    }
  }
  return runs;
}

Parts connected_parts(const Runs& runs, Connectivity connectivity) {
  const std::int64_t ny = runs.size()[1];
  const std::size_t rows = connectivity == Connectivity::kFaces ? kFaceRows : kEarlierRows.size();
  DisjointSets sets(runs.all().size());
  for (std::int64_t row = 0; row < runs.row_count(); ++row) {
    if (runs.row_begin(row) == runs.row_end(row)) continue;
    const std::int64_t y = row % ny, z = row / ny;
    for (std::size_t i = 0; i < rows; ++i) {
      const auto [dy, dz] = kEarlierRows[i];
      if (y + dy < 0 || y + dy >= ny || z + dz < 0) continue;
      // One step along x, on top of this one, leads over an edge or a corner.
      const bool may_step = connectivity == Connectivity::kCorners ||
                            (connectivity == Connectivity::kEdges && i < kFaceRows);
      join_rows(runs, row, row + dz * ny + dy, may_step ? 1 : 0, sets);
    }
  }

  Parts parts;
  parts.of_run.resize(runs.all().size());
  for (std::size_t i = 0; i < runs.all().size(); ++i) {
    const auto run = static_cast<std::int32_t>(i);
    const std::int32_t root = sets.root(run);  // the first run of its part
    if (root == run) {
      parts.of_run[i] = parts.count();
      parts.voxels.push_back(0);
    } else {
      parts.of_run[i] = parts.of_run[root];
    }
    parts.voxels[parts.of_run[i]] += runs.all()[i].length();
  }
  return parts;
}

}  // namespace segmamba::metrics
