#pragma once
// A set of voxels as its stretches along x, and the connected parts of it. Memory goes with the
// surface of the set, not with the grid.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "segmamba/metrics/mask.h"

namespace segmamba::metrics {

// Which of its 26 neighbours a voxel is connected to, by what they share with it. The values are
// their numbers.
enum class Connectivity { kFaces = 6, kEdges = 18, kCorners = 26 };

// A stretch of voxels: low <= x < high.
struct Run {
  std::int32_t low, high;

  std::int64_t length() const { return high - low; }
};

class Runs {
 public:
  // Of a grid of `size`; rows are then added in memory order.
  explicit Runs(const Size& size);

  // The next row, where is_member(x), for low <= x < high.
  template <class Predicate>
  void add_row(std::int64_t low, std::int64_t high, Predicate is_member) {
    for (std::int64_t x = low; x < high;) {
      if (!is_member(x)) {
        ++x;
        continue;
      }
      const std::int64_t first = x;
      while (x < high && is_member(x)) ++x;
      runs_.push_back({static_cast<std::int32_t>(first), static_cast<std::int32_t>(x)});
    }
    add_empty_row();
  }
  void add_empty_row() { row_ends_.push_back(static_cast<std::int32_t>(runs_.size())); }

  const Size& size() const { return size_; }
  // All of them, by row and then by x. No two of a row touch.
  const std::vector<Run>& all() const { return runs_; }
  std::int64_t row_count() const { return size_[1] * size_[2]; }
  // The place in all() of the first run of a row [z * size y + y], or behind the last one.
  std::int32_t row_begin(std::int64_t row) const {
    return row == 0 ? 0 : row_ends_[static_cast<std::size_t>(row) - 1];
  }
  std::int32_t row_end(std::int64_t row) const { return row_ends_[static_cast<std::size_t>(row)]; }

  // Calls body(run, place in all(), y, z) for each, in order.
  template <class Body>
  void for_each(Body body) const {
    for (std::int64_t row = 0; row < row_count(); ++row) {
      for (std::int32_t place = row_begin(row); place < row_end(row); ++place) {
        body(runs_[static_cast<std::size_t>(place)], place, row % size_[1], row / size_[1]);
      }
    }
  }

 private:
  Size size_;
  std::vector<Run> runs_;
  std::vector<std::int32_t> row_ends_;
};

Runs runs_of(const Mask& mask);

// Connected parts, numbered from 0 in the order of their first run.
struct Parts {
  std::vector<std::int32_t> of_run;  // the part of each run
  std::vector<std::int64_t> voxels;  // of each part

  std::int32_t count() const { return static_cast<std::int32_t>(voxels.size()); }
};
Parts connected_parts(const Runs& runs, Connectivity connectivity);

}  // namespace segmamba::metrics
