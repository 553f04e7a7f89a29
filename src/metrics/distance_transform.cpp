#include "segmamba/metrics/distance_transform.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>

namespace segmamba::metrics {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// min over sites v of  f(v) + w (x - v)^2,  w = spacing^2, for sites and queries given in ascending
// order.
class LowerEnvelope {
 public:
  LowerEnvelope(std::int64_t length, double spacing)
      : weight_(spacing * spacing),
        half_inverse_(static_cast<std::size_t>(length)),
        sites_(static_cast<std::size_t>(length)),
        starts_(static_cast<std::size_t>(length)) {
    for (std::size_t d = 1; d < half_inverse_.size(); ++d) {
      half_inverse_[d] = 0.5 / (weight_ * static_cast<double>(d));
    }
  }

  void clear() { count_ = 0; }

  void add(std::int64_t position, double value) {
    const double p = static_cast<double>(position);
    const double height = value + weight_ * p * p;
    double start = -kInfinity;
    while (count_ > 0) {
      const Site& last = sites_[count_ - 1];
      // From here on the new parabola lies below the last one.
      start = (height - last.height) *
              half_inverse_[static_cast<std::size_t>(position - last.position)];
      if (start > starts_[count_ - 1]) break;
      --count_;
      start = -kInfinity;
    }
    sites_[count_] = {position, value, height};
    starts_[count_] = start;
    ++count_;
  }

  void rewind() { current_ = 0; }

  // Positions must not decrease between two calls of rewind(). At least one site.
  double at(std::int64_t position) {
    const double p = static_cast<double>(position);
    while (current_ + 1 < count_ && starts_[current_ + 1] < p) ++current_;
    const Site& site = sites_[current_];
    const double offset = static_cast<double>(position - site.position);
    return site.value + weight_ * offset * offset;
  }

 private:
  struct Site {
    std::int64_t position;
    double value, height;
  };
  double weight_;
  std::vector<double> half_inverse_;  // 1 / (2 w d)
  std::vector<Site> sites_;
  std::vector<double> starts_;
  std::size_t count_ = 0, current_ = 0;
};

struct Query {
  std::int64_t x, y, z;
  std::size_t output;  // position among the queries in memory order
};

std::vector<Query> find_queries(const Mask& mask) {
  const auto [nx, ny, nz] = mask.size;
  std::vector<Query> queries;
  for (std::int64_t z = 0; z < nz; ++z) {
    for (std::int64_t y = 0; y < ny; ++y) {
      const std::uint8_t* row = mask.voxels.data() + mask.index(0, y, z);
      if (!mask.may_hold(z * ny + y) || !any_set(row, nx)) continue;
      for (std::int64_t x = 0; x < nx; ++x) {
        if (row[x] != 0) queries.push_back({x, y, z, queries.size()});
      }
    }
  }
  return queries;
}

// Voxel steps in the order of their length, complete up to the longest.
struct Step {
  std::int64_t x, y, z, index;  // index: the step in memory
  double length;                // mm
};

struct Steps {
  std::vector<Step> list;
  Size reach{};  // the largest |step| along each axis
};

// Surfaces of a prediction and its reference lie close to each other: most queries end after a few
// steps. Longer ones are cheaper by the transform.
Steps near_steps(const Spacing& spacing, const Size& size) {
  constexpr double kReach = 3.5;  // times the finest spacing; 179 steps on an isotropic grid
  const double longest = kReach * *std::min_element(spacing.begin(), spacing.end());
  Steps steps;
  for (int axis = 0; axis < 3; ++axis) {
    steps.reach[axis] = static_cast<std::int64_t>(longest / spacing[axis]);
  }
  const auto [rx, ry, rz] = steps.reach;
  for (std::int64_t z = -rz; z <= rz; ++z) {
    for (std::int64_t y = -ry; y <= ry; ++y) {
      for (std::int64_t x = -rx; x <= rx; ++x) {
        const double mx = static_cast<double>(x) * spacing[0],
                     my = static_cast<double>(y) * spacing[1],
                     mz = static_cast<double>(z) * spacing[2];
        const double length = std::sqrt(mx * mx + my * my + mz * mz);
        if (length <= longest) {
          steps.list.push_back({x, y, z, (z * size[1] + y) * size[0] + x, length});
        }
      }
    }
  }
  std::sort(steps.list.begin(), steps.list.end(),
            [](const Step& a, const Step& b) { return a.length < b.length; });
  return steps;
}

// Fills the distances of the queries that have a seed within the steps' reach; returns the others.
std::vector<Query> answer_near(const Mask& seeds, const std::vector<Query>& queries,
                               const Spacing& spacing, std::vector<double>& distances) {
  const auto [nx, ny, nz] = seeds.size;
  const Steps steps = near_steps(spacing, seeds.size);
  std::vector<Query> far;
  for (const Query& query : queries) {
    const std::uint8_t* here = seeds.voxels.data() + seeds.index(query.x, query.y, query.z);
    const auto [rx, ry, rz] = steps.reach;
    const bool is_inside = query.x >= rx && query.x + rx < nx && query.y >= ry &&
                           query.y + ry < ny && query.z >= rz && query.z + rz < nz;
    const auto found = std::find_if(
        steps.list.begin(), steps.list.end(), [&, nx = nx, ny = ny, nz = nz](const Step& step) {
          if (!is_inside) {
            const std::int64_t x = query.x + step.x, y = query.y + step.y, z = query.z + step.z;
            if (x < 0 || x >= nx || y < 0 || y >= ny || z < 0 || z >= nz) return false;
          }
          return here[step.index] != 0;
        });
    if (found == steps.list.end()) {
      far.push_back(query);
    } else {
      distances[query.output] = found->length;
    }
  }
  return far;
}

// Queries grouped into columns along z. Columns are numbered x first, then y.
struct Columns {
  std::vector<std::int64_t> xs;               // ascending, those with queries
  std::vector<std::vector<std::int64_t>> ys;  // for each of xs, ascending
  std::vector<std::size_t> first;  // column -> first of its queries; one extra at the end
  std::vector<Query> queries;      // column by column, z ascending
};

Columns group_columns(std::vector<Query> queries) {
  std::sort(queries.begin(), queries.end(), [](const Query& a, const Query& b) {
    return std::tie(a.x, a.y, a.z) < std::tie(b.x, b.y, b.z);
  });
  Columns columns;
  for (std::size_t i = 0; i < queries.size(); ++i) {
    const Query& query = queries[i];
    const bool is_new_x = i == 0 || query.x != queries[i - 1].x;
    if (is_new_x) {
      columns.xs.push_back(query.x);
      columns.ys.emplace_back();
    }
    if (is_new_x || query.y != queries[i - 1].y) {
      columns.ys.back().push_back(query.y);
      columns.first.push_back(i);
    }
  }
  columns.first.push_back(queries.size());
  columns.queries = std::move(queries);
  return columns;
}

// Squared distances along one row of seeds; false where it holds none.
bool row_distances(const std::uint8_t* row, std::int64_t length, double spacing, double* squared) {
  if (!any_set(row, length)) return false;
  constexpr std::int64_t kFar = std::int64_t{1} << 40;
  std::int64_t since = kFar;
  for (std::int64_t x = 0; x < length; ++x) {
    since = row[x] != 0 ? 0 : since + 1;
    squared[x] = static_cast<double>(since);
  }
  since = kFar;
  for (std::int64_t x = length - 1; x >= 0; --x) {
    since = row[x] != 0 ? 0 : since + 1;
    const double distance = spacing * std::min(squared[x], static_cast<double>(since));
    squared[x] = distance * distance;
  }
  return true;
}

// By the transform, along x, y and z, restricted to rows that hold seeds and columns that hold
// queries.
void answer_far(const Mask& seeds, std::vector<Query> queries, const Spacing& spacing,
                std::vector<double>& distances) {
  const auto [nx, ny, nz] = seeds.size;
  const Columns columns = group_columns(std::move(queries));
  const std::size_t column_count = columns.first.size() - 1;

  // Along x and y: for each slice with seeds, the squared distance within it at every column.
  std::vector<std::int64_t> slices;
  std::vector<double> in_slice;  // [slice][column]
  std::vector<std::int64_t> rows;
  std::vector<double> in_row(static_cast<std::size_t>(nx * ny));  // [row with seeds][x]
  LowerEnvelope along_y(ny, spacing[1]);
  for (std::int64_t z = 0; z < nz; ++z) {
    rows.clear();
    for (std::int64_t y = 0; y < ny; ++y) {
      if (!seeds.may_hold(z * ny + y)) continue;
      double* target = in_row.data() + static_cast<std::int64_t>(rows.size()) * nx;
      if (row_distances(seeds.voxels.data() + seeds.index(0, y, z), nx, spacing[0], target)) {
        rows.push_back(y);
      }
    }
    if (rows.empty()) continue;
    slices.push_back(z);
    for (std::size_t i = 0; i < columns.xs.size(); ++i) {
      along_y.clear();
      const double* value = in_row.data() + columns.xs[i];
      for (std::size_t row = 0; row < rows.size(); ++row, value += nx) {
        along_y.add(rows[row], *value);
      }
      along_y.rewind();
      for (const std::int64_t y : columns.ys[i]) in_slice.push_back(along_y.at(y));
    }
  }
  if (slices.empty()) return;

  LowerEnvelope along_z(nz, spacing[2]);
  for (std::size_t column = 0; column < column_count; ++column) {
    along_z.clear();
    const double* value = in_slice.data() + column;
    for (std::size_t slice = 0; slice < slices.size(); ++slice, value += column_count) {
      along_z.add(slices[slice], *value);
    }
    along_z.rewind();
    for (std::size_t i = columns.first[column]; i < columns.first[column + 1]; ++i) {
      const auto& query = columns.queries[i];
      distances[query.output] = std::sqrt(along_z.at(query.z));
    }
  }
}

}  // namespace

std::vector<double> distances_to(const Mask& seeds, const Mask& queries, const Spacing& spacing) {
  const std::vector<Query> all = find_queries(queries);
  std::vector<double> distances(all.size(), kInfinity);
  std::vector<Query> far = answer_near(seeds, all, spacing, distances);
  if (!far.empty()) answer_far(seeds, std::move(far), spacing, distances);
  return distances;
}

}  // namespace segmamba::metrics
