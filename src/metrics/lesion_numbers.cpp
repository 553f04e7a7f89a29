#include "lesion_numbers.h"

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
  const auto number = [&, nx = nx, ny = ny, nz = nz](std::int64_t x, std::int64_t y,
                                                     std::int64_t z) {
    const bool inside = x >= 0 && x < nx && y >= 0 && y < ny && z >= 0 && z < nz;
    return inside ? static_cast<std::uint32_t>(image.numbers[(z * ny + y) * nx + x]) : 0u;
  };
  NumberedSurface surface{Mask({nx + 1, ny + 1, nz + 1}), {}};
  std::uint8_t* point = surface.points.voxels.data();
  for (std::int64_t z = 0; z <= nz; ++z) {
    for (std::int64_t y = 0; y <= ny; ++y) {
      for (std::int64_t x = 0; x <= nx; ++x, ++point) {
        std::uint32_t pattern = 0;
        for (unsigned corner = 0; corner < 8; ++corner) {
          const std::int64_t dx = corner >> 2, dy = corner >> 1 & 1, dz = corner & 1;
          pattern += number(x - 1 + dx, y - 1 + dy, z - 1 + dz) << (7 - corner);
        }
        pattern &= 255;
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
