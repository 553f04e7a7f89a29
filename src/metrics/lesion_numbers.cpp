#include "lesion_numbers.h"

#include <algorithm>
#include <array>
#include <numeric>

#include "segmamba/metrics/distance_transform.h"

namespace segmamba::metrics {
namespace {

struct NumberedSurface {
  Mask points;  // one more than the image along each axis
  std::vector<double> areas;
};

NumberedSurface numbered_surface(const LesionNumbers& image, const std::vector<double>& areas) {
  const auto [nx, ny, nz] = image.size;
  NumberedSurface surface{Mask({nx + 1, ny + 1, nz + 1}), {}};
  const std::vector<std::int32_t> outside(static_cast<std::size_t>(nx), 0);
  std::uint8_t* point = surface.points.voxels.data();
  for (std::int64_t z = 0; z <= nz; ++z) {
    for (std::int64_t y = 0; y <= ny; ++y) {
      // The four rows of voxels around this row of points, indexed by their side 2y + z.
      std::array<const std::int32_t*, 4> rows{};
      for (int side = 0; side < 4; ++side) {
        const std::int64_t row_y = y - 1 + (side >> 1), row_z = z - 1 + (side & 1);
        const bool inside = row_y >= 0 && row_y < ny && row_z >= 0 && row_z < nz;
        rows[side] = inside ? image.numbers.data() + (row_z * ny + row_y) * nx : outside.data();
      }
      const bool is_empty =
          std::none_of(rows.begin(), rows.end(),
                       [nx = nx](const std::int32_t* row) { return any_set(row, nx); });
      if (is_empty) {
        point += nx + 1;
        continue;
      }
      std::uint32_t behind = 0;  // what the four voxels on the low side along x add
      for (std::int64_t x = 0; x <= nx; ++x, ++point) {
        std::uint32_t ahead = 0;
        for (int side = 0; side < 4 && x < nx; ++side) {
          ahead += static_cast<std::uint32_t>(rows[side][x]) << (3 - side);
        }
        const std::uint32_t pattern = ((behind << 4) + ahead) & 255u;
        behind = ahead;
        if (pattern == 0 || pattern == 255) continue;
        *point = 1;
        // The script numbers the corners the other way round; mirrored patterns have equal areas.
        surface.areas.push_back(areas[pattern]);
      }
    }
  }
  return surface;
}

std::int64_t sum(const LesionNumbers& image) {
  return std::accumulate(image.numbers.begin(), image.numbers.end(), std::int64_t{0});
}

// Voxels numbered 1 on both sides, and on one side at least.
struct Ones {
  std::int64_t both = 0, any = 0;
};

Ones count_ones(const LesionNumbers& prediction, const LesionNumbers& reference) {
  Ones ones;
  for (std::size_t i = 0; i < prediction.numbers.size(); ++i) {
    const bool p = prediction.numbers[i] == 1, g = reference.numbers[i] == 1;
    ones.both += p && g ? 1 : 0;
    ones.any += p || g ? 1 : 0;
  }
  return ones;
}

}  // namespace

SurfaceDistances numbered_surface_distances(const LesionNumbers& prediction,
                                            const LesionNumbers& reference,
                                            const Spacing& spacing) {
  const std::vector<double> areas = corner_areas(spacing);
  NumberedSurface p = numbered_surface(prediction, areas), g = numbered_surface(reference, areas);
  return {{distances_to(g.points, p.points, spacing), std::move(p.areas)},
          {distances_to(p.points, g.points, spacing), std::move(g.areas)}};
}

double numbered_sensitivity(const LesionNumbers& prediction, const LesionNumbers& reference) {
  const std::int64_t total = sum(reference);
  if (total == 0) return sum(prediction) == 0 ? 1 : 0;
  return static_cast<double>(count_ones(prediction, reference).both) / static_cast<double>(total);
}

double numbered_specificity(const LesionNumbers& prediction, const LesionNumbers& reference,
                            std::int64_t voxels) {
  const Ones ones = count_ones(prediction, reference);
  const auto true_negatives = static_cast<double>(voxels - ones.any);
  const double denominator = true_negatives + static_cast<double>(sum(prediction) - ones.both);
  return denominator == 0 ? 0 : true_negatives / denominator;
}

}  // namespace segmamba::metrics
