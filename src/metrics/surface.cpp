#include "segmamba/metrics/surface.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <memory>

#include "segmamba/metrics/distance_transform.h"

namespace segmamba::metrics {
namespace {

// `count` triangles with a normal of these components, whose length is the triangle's area.
struct Triangles {
  int count;
  std::array<double, 3> normal;
};

// One pattern of the eight voxels around a lattice point, in the bits of corner_areas(). All others
// follow by the symmetries of the cube and by exchanging inside and outside.
struct Pattern {
  unsigned voxels;
  std::vector<Triangles> triangles;
};

unsigned voxel_bits(std::initializer_list<int> corners) {  // a corner as xyz in binary
  unsigned bits = 0;
  for (const int corner : corners) bits |= 1u << corner;
  return bits;
}

std::vector<Pattern> generating_patterns() {
  constexpr double k8 = 1.0 / 8, k4 = 1.0 / 4, k2 = 1.0 / 2;
  const Triangles small{1, {k8, k8, k8}};
  return {
      {voxel_bits({0b111}), {small}},
      {voxel_bits({0b110, 0b111}), {{2, {k4, k4, 0}}}},
      {voxel_bits({0b101, 0b110}), {{2, {k8, k8, k8}}}},
      {voxel_bits({0b011, 0b100}), {{2, {k8, k8, k8}}}},
      {voxel_bits({0b101, 0b110, 0b111}), {small, {1, {k4, k4, k4}}, {1, {k2, 0, 0}}}},
      {voxel_bits({0b011, 0b101, 0b110}), {{3, {k8, k8, k8}}}},
      {voxel_bits({0b011, 0b100, 0b111}), {{2, {0, k4, k4}}, small}},
      {voxel_bits({0b100, 0b101, 0b110, 0b111}), {{2, {k2, 0, 0}}}},
      {voxel_bits({0b011, 0b101, 0b110, 0b111}), {{2, {k8, k8, k8}}, {2, {k4, k4, k4}}}},
      {voxel_bits({0b011, 0b100, 0b110, 0b111}),
       {{1, {0, k4, k4}}, small, {1, {k4, 0, k4}}, {1, {3 * k8, 3 * k8, 3 * k8}}}},
      {voxel_bits({0b011, 0b100, 0b101, 0b110}),
       {{2, {k8, k8, k8}}, {1, {k4, k4, k4}}, {1, {k2, 0, 0}}}},
      {voxel_bits({0b010, 0b011, 0b100, 0b101}), {{4, {k4, k4, 0}}}},
      {voxel_bits({0b001, 0b010, 0b100, 0b111}), {{4, {k8, k8, k8}}}},
  };
}

// Moves every voxel of a pattern: its new coordinate on axis a is the old one on axis order[a],
// mirrored where bit a of `mirror` is set.
unsigned transform(unsigned pattern, const std::array<int, 3>& order, unsigned mirror) {
  unsigned moved = 0;
  for (unsigned corner = 0; corner < 8; ++corner) {
    if ((pattern >> corner & 1u) == 0) continue;
    unsigned target = 0;
    for (int axis = 0; axis < 3; ++axis) {
      const unsigned coordinate = (corner >> (2 - order[axis]) ^ mirror >> axis) & 1u;
      target |= coordinate << (2 - axis);
    }
    moved |= 1u << target;
  }
  return moved;
}

std::vector<std::vector<Triangles>> all_patterns() {
  std::vector<std::vector<Triangles>> table(256);
  for (const auto& [voxels, triangles] : generating_patterns()) {
    std::array<int, 3> order = {0, 1, 2};
    do {
      std::vector<Triangles> moved = triangles;
      for (std::size_t i = 0; i < moved.size(); ++i) {
        for (int axis = 0; axis < 3; ++axis) {
          moved[i].normal[axis] = triangles[i].normal[order[axis]];
        }
      }
      for (unsigned mirror = 0; mirror < 8; ++mirror) {
        const unsigned pattern = transform(voxels, order, mirror);
        table[pattern] = table[255 - pattern] = moved;
      }
    } while (std::next_permutation(order.begin(), order.end()));
  }
  return table;
}

struct CornerSurface {
  Mask points;  // one more than the mask along each axis
  std::vector<double> areas;
};

CornerSurface corner_surface(const Mask& mask, const std::vector<double>& areas) {
  const auto [nx, ny, nz] = mask.size;
  CornerSurface surface{Mask({nx + 1, ny + 1, nz + 1}), {}};
  auto occupied = std::make_shared<std::vector<std::uint8_t>>(
      static_cast<std::size_t>(surface.points.row_count()));
  const std::vector<std::uint8_t> outside(static_cast<std::size_t>(nx), 0);
  std::uint8_t* point = surface.points.voxels.data();
  for (std::int64_t z = 0; z <= nz; ++z) {
    for (std::int64_t y = 0; y <= ny; ++y) {
      // The four rows of voxels around this row of points, indexed by their side 2y + z.
      std::array<const std::uint8_t*, 4> rows{};
      for (int side = 0; side < 4; ++side) {
        const std::int64_t row_y = y - 1 + (side >> 1), row_z = z - 1 + (side & 1);
        const bool inside = row_y >= 0 && row_y < ny && row_z >= 0 && row_z < nz &&
                            mask.may_hold(row_z * ny + row_y);
        rows[side] = inside ? mask.voxels.data() + mask.index(0, row_y, row_z) : outside.data();
      }
      const bool touches_mask =
          std::any_of(rows.begin(), rows.end(), [&, nx = nx](const std::uint8_t* row) {
            return row != outside.data() && any_set(row, nx);
          });
      if (!touches_mask) {
        point += nx + 1;
        continue;
      }
      (*occupied)[static_cast<std::size_t>(z * (ny + 1) + y)] = 1;
      unsigned behind = 0;  // the four voxels on the low side along x
      for (std::int64_t x = 0; x <= nx; ++x, ++point) {
        unsigned ahead = 0;
        if (x < nx) {
          ahead = rows[0][x] | rows[1][x] << 1 | rows[2][x] << 2 | rows[3][x] << 3;
        }
        const unsigned pattern = behind | ahead << 4;
        behind = ahead;
        if (pattern == 0 || pattern == 255) continue;
        *point = 1;
        surface.areas.push_back(areas[pattern]);
      }
    }
  }
  surface.points.rows = std::move(occupied);
  return surface;
}

}  // namespace

std::vector<double> corner_areas(const Spacing& spacing) {
  static const std::vector<std::vector<Triangles>> kPatterns = all_patterns();
  const auto [sx, sy, sz] = spacing;
  std::vector<double> areas(kPatterns.size());
  for (std::size_t pattern = 0; pattern < kPatterns.size(); ++pattern) {
    for (const auto& [count, normal] : kPatterns[pattern]) {
      const double x = normal[0] * sy * sz, y = normal[1] * sx * sz, z = normal[2] * sx * sy;
      areas[pattern] += count * std::sqrt(x * x + y * y + z * z);
    }
  }
  return areas;
}

Mask face_surface(const Mask& mask) {
  const auto [nx, ny, nz] = mask.size;
  Mask surface(mask.size);
  surface.rows = mask.rows;
  const std::vector<std::uint8_t> outside(static_cast<std::size_t>(nx), 0);
  for (std::int64_t z = 0; z < nz; ++z) {
    for (std::int64_t y = 0; y < ny; ++y) {
      const auto row_at = [&, nx = nx, ny = ny, nz = nz](std::int64_t row_y, std::int64_t row_z) {
        const bool inside = row_y >= 0 && row_y < ny && row_z >= 0 && row_z < nz &&
                            mask.may_hold(row_z * ny + row_y);
        return inside ? mask.voxels.data() + (row_z * ny + row_y) * nx : outside.data();
      };
      if (!mask.may_hold(z * ny + y)) continue;
      const std::uint8_t *row = row_at(y, z), *before_y = row_at(y - 1, z),
                         *after_y = row_at(y + 1, z), *before_z = row_at(y, z - 1),
                         *after_z = row_at(y, z + 1);
      if (!any_set(row, nx)) continue;
      std::uint8_t* target = surface.voxels.data() + surface.index(0, y, z);
      for (std::int64_t x = 0; x < nx; ++x) {
        const std::uint8_t left = x > 0 ? row[x - 1] : 0, right = x + 1 < nx ? row[x + 1] : 0;
        const std::uint8_t all = left & right & before_y[x] & after_y[x] & before_z[x] & after_z[x];
        target[x] = row[x] & (all ^ 1u);
      }
    }
  }
  return surface;
}

SurfaceDistances surface_distances(const Mask& prediction, const Mask& reference, SurfaceKind kind,
                                   const Spacing& spacing) {
  if (kind == SurfaceKind::kFaceNeighbours) {
    const Mask p = face_surface(prediction), g = face_surface(reference);
    return {{distances_to(g, p, spacing), {}}, {distances_to(p, g, spacing), {}}};
  }
  const std::vector<double> areas = corner_areas(spacing);
  CornerSurface p = corner_surface(prediction, areas), g = corner_surface(reference, areas);
  return {{distances_to(g.points, p.points, spacing), std::move(p.areas)},
          {distances_to(p.points, g.points, spacing), std::move(g.areas)}};
}

}  // namespace segmamba::metrics
