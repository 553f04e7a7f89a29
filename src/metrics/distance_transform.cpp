#include "segmamba/metrics/distance_transform.h"

#include <cmath>
#include <limits>

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

// The queries, grouped into columns along z. Columns are numbered x first, then y.
struct Columns {
  struct Query {
    std::int64_t z;
    std::size_t output;  // position in memory order
  };
  std::vector<std::int64_t> xs;               // ascending, those with queries
  std::vector<std::vector<std::int64_t>> ys;  // for each of xs, ascending
  std::vector<std::size_t> first;  // column -> first of its queries; one extra at the end
  std::vector<Query> queries;      // column by column, z ascending
};

Columns group_columns(const Mask& mask) {
  const auto [nx, ny, nz] = mask.size;
  Columns columns;
  std::vector<std::size_t> per_column(static_cast<std::size_t>(nx * ny));  // [x][y]
  const auto for_each_query = [&, nx = nx, ny = ny, nz = nz](const auto& body) {
    const std::uint8_t* row = mask.voxels.data();
    for (std::int64_t z = 0; z < nz; ++z) {
      for (std::int64_t y = 0; y < ny; ++y, row += nx) {
        if (!any_set(row, nx)) continue;
        for (std::int64_t x = 0; x < nx; ++x) {
          if (row[x] != 0) body(static_cast<std::size_t>(x * ny + y), z);
        }
      }
    }
  };
  for_each_query([&](std::size_t column, std::int64_t) { ++per_column[column]; });

  std::size_t total = 0;
  std::vector<std::size_t> fill(per_column.size());  // where a column's next query goes
  for (std::int64_t x = 0; x < nx; ++x) {
    std::vector<std::int64_t> ys;
    for (std::int64_t y = 0; y < ny; ++y) {
      const auto column = static_cast<std::size_t>(x * ny + y);
      if (per_column[column] == 0) continue;
      ys.push_back(y);
      columns.first.push_back(total);
      fill[column] = total;
      total += per_column[column];
    }
    if (ys.empty()) continue;
    columns.xs.push_back(x);
    columns.ys.push_back(std::move(ys));
  }
  columns.first.push_back(total);
  columns.queries.resize(total);
  std::size_t output = 0;
  for_each_query([&](std::size_t column, std::int64_t z) {
    columns.queries[fill[column]++] = {z, output++};
  });
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

}  // namespace

std::vector<double> distances_to(const Mask& seeds, const Mask& queries, const Spacing& spacing) {
  const auto [nx, ny, nz] = seeds.size;
  const Columns columns = group_columns(queries);
  std::vector<double> distances(columns.queries.size(), kInfinity);
  if (distances.empty()) return distances;
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
  if (slices.empty()) return distances;

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
  return distances;
}

}  // namespace segmamba::metrics
