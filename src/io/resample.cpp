#include "segmamba/io/resample.h"

#include <algorithm>
#include <atomic>
#include <cmath>

#include "segmamba/core/parallel.h"
#include "segmamba/core/text.h"

namespace segmamba::io {
namespace {

using Vector = std::array<double, 3>;

// Of voxels: how far the floats of headers may put a place beside a centre or a face.
constexpr double kRounding = 1e-4;

// Where the voxels of one grid lie in another, in voxels of that: voxel (x, y, z) at
// begin + x * step[0] + y * step[1] + z * step[2].
struct GridMap {
  Vector begin{};
  std::array<Vector, 3> step{};

  GridMap(const Geometry& grid, const Geometry& in) {
    // The inverse of an orthonormal direction is its transpose.
    const auto to_index = [&](const Vector& world, std::size_t axis) {
      double sum = 0;
      for (std::size_t w = 0; w < 3; ++w) sum += in.direction[3 * w + axis] * world[w];
      return sum / in.spacing[axis];
    };
    Vector offset{};
    for (std::size_t w = 0; w < 3; ++w) offset[w] = grid.origin[w] - in.origin[w];
    for (std::size_t axis = 0; axis < 3; ++axis) {
      begin[axis] = to_index(offset, axis);
      for (std::size_t j = 0; j < 3; ++j) {
        const Vector along = {grid.direction[j], grid.direction[3 + j], grid.direction[6 + j]};
        step[j][axis] = to_index(along, axis) * grid.spacing[j];
      }
    }
  }

  Vector row(std::int64_t y, std::int64_t z) const {
    Vector place{};
    for (std::size_t axis = 0; axis < 3; ++axis) {
      place[axis] = begin[axis] + static_cast<double>(y) * step[1][axis] +
                    static_cast<double>(z) * step[2][axis];
    }
    return place;
  }
};

// The voxels on either side of a place along one axis, and how far it lies from the lower one to
// the upper. Both are the outer voxel beyond its centre.
struct Neighbours {
  std::int64_t low, high;
  float share;

  Neighbours(double place, std::int64_t size) {
    const double cell = std::floor(place + kRounding);
    const double beyond = place - cell;
    low = std::clamp<std::int64_t>(static_cast<std::int64_t>(cell), 0, size - 1);
    high = std::clamp<std::int64_t>(static_cast<std::int64_t>(cell) + 1, 0, size - 1);
    share = beyond < kRounding ? 0 : static_cast<float>(beyond);
  }
};

float sample(const Image& image, const Vector& place) {
  const auto& size = image.geometry.size;
  const Neighbours x(place[0], size[0]), y(place[1], size[1]), z(place[2], size[2]);
  const auto along_x = [&](std::int64_t row_y, std::int64_t row_z) {
    const float* row = image.voxels.data() + (row_z * size[1] + row_y) * size[0];
    return row[x.low] + x.share * (row[x.high] - row[x.low]);
  };
  const auto along_y = [&](std::int64_t slice) {
    const float low = along_x(y.low, slice);
    return low + y.share * (along_x(y.high, slice) - low);
  };
  const float low = along_y(z.low);
  return low + z.share * (along_y(z.high) - low);
}

std::uint8_t sample(const LabelMap& labels, const Vector& place) {
  const auto& size = labels.geometry.size;
  std::int64_t index = 0;
  for (std::size_t axis = 3; axis-- > 0;) {
    const auto nearest = static_cast<std::int64_t>(std::floor(place[axis] + 0.5 + kRounding));
    index = index * size[axis] + std::clamp<std::int64_t>(nearest, 0, size[axis] - 1);
  }
  return labels.voxels[static_cast<std::size_t>(index)];
}

bool is_inside(const Geometry& geometry, const Vector& place) {
  for (std::size_t axis = 0; axis < 3; ++axis) {
    const double last = static_cast<double>(geometry.size[axis]) - 0.5 + kRounding;
    if (!(place[axis] >= -0.5 - kRounding && place[axis] <= last)) return false;
  }
  return true;
}

template <class T>
Volume<T> resample(const Geometry& grid, const Volume<T>& volume) {
  Volume<T> result{grid, std::vector<T>(static_cast<std::size_t>(grid.voxel_count()))};
  const GridMap map(grid, volume.geometry);
  std::atomic<bool> overlaps = false;
  parallel_for(grid.size[2], [&](std::int64_t z) {
    T* target = result.voxels.data() + z * grid.size[1] * grid.size[0];
    bool any = false;
    for (std::int64_t y = 0; y < grid.size[1]; ++y) {
      const Vector row = map.row(y, z);
      for (std::int64_t x = 0; x < grid.size[0]; ++x, ++target) {
        Vector place = row;
        for (std::size_t axis = 0; axis < 3; ++axis) {
          place[axis] += static_cast<double>(x) * map.step[0][axis];
        }
        if (!is_inside(volume.geometry, place)) continue;
        any = true;
        *target = sample(volume, place);
      }
    }
    if (any) overlaps = true;
  });
  if (!overlaps) {
    const auto describe = [](const Geometry& geometry) {
      return concat(join(geometry.size, "x"), " voxels of ", join(geometry.spacing, "x"),
                    " mm from (", join(geometry.origin, ", "), ")");
    };
    throw Error(
        concat("the grids do not overlap: ", describe(volume.geometry), " and ", describe(grid)));
  }
  return result;
}

}  // namespace

Image resample_into(const Geometry& grid, const Image& image) { return resample(grid, image); }

LabelMap resample_into(const Geometry& grid, const LabelMap& labels) {
  return resample(grid, labels);
}

}  // namespace segmamba::io
