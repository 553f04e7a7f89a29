#include "segmamba/data/augment.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "segmamba/core/error.h"
#include "segmamba/core/text.h"

namespace segmamba::data {
namespace {

using Index = std::array<std::int64_t, 3>;

std::int64_t volume(const Index& size) { return size[0] * size[1] * size[2]; }

Patch empty_patch(const CaseData& item, const Index& size) {
  Patch patch;
  patch.size = size;
  patch.channels = item.channels;
  patch.image.assign(static_cast<std::size_t>(item.channels * volume(size)), 0.0f);
  patch.labels.assign(static_cast<std::size_t>(volume(size)), 0);
  return patch;
}

// The rows of the box that lie in the case are copied from `source` to `target`.
template <class T>
void copy_box(const T* source, const Index& source_size, const Index& start, T* target,
              const Index& size) {
  std::array<std::int64_t, 3> first{};
  std::array<std::int64_t, 3> last{};
  for (std::size_t axis = 0; axis < 3; ++axis) {
    first[axis] = std::max<std::int64_t>(0, -start[axis]);
    last[axis] = std::min(size[axis], source_size[axis] - start[axis]);
  }
  if (first[2] >= last[2]) return;
  for (std::int64_t z = first[0]; z < last[0]; ++z) {
    for (std::int64_t y = first[1]; y < last[1]; ++y) {
      const T* row =
          source + ((z + start[0]) * source_size[1] + y + start[1]) * source_size[2] + start[2];
      std::copy(row + first[2], row + last[2], target + (z * size[1] + y) * size[2] + first[2]);
    }
  }
}

// Where a patch begins that has `voxel` in its middle, moved into the case where it would stick
// out; a case smaller than the patch lies in the middle of it.
std::int64_t start_around(std::int64_t voxel, std::int64_t patch, std::int64_t whole) {
  if (whole <= patch) return -((patch - whole) / 2);
  return std::clamp<std::int64_t>(voxel - patch / 2, 0, whole - patch);
}

// The position of a tumour voxel, the `fraction`-th of all; false where there is none.
bool find_tumour_voxel(const CaseData& item, double fraction, Index& voxel) {
  const auto background = std::count(item.labels.begin(), item.labels.end(), std::uint8_t{0});
  const auto tumour = static_cast<std::int64_t>(item.labels.size()) - background;
  if (tumour == 0) return false;
  auto rank =
      std::min(static_cast<std::int64_t>(fraction * static_cast<double>(tumour)), tumour - 1);
  std::int64_t index = 0;
  for (;; ++index) {
    if (item.labels[static_cast<std::size_t>(index)] != 0 && rank-- == 0) break;
  }
  voxel = {index / (item.size[1] * item.size[2]), index / item.size[2] % item.size[1],
           index % item.size[2]};
  return true;
}

template <class T>
void mirror_volume(T* values, const Index& size, const std::array<bool, 3>& axes) {
  const std::int64_t plane = size[1] * size[2];
  if (axes[0]) {
    for (std::int64_t z = 0; z < size[0] / 2; ++z) {
      std::swap_ranges(values + z * plane, values + (z + 1) * plane,
                       values + (size[0] - 1 - z) * plane);
    }
  }
  for (std::int64_t z = 0; z < size[0]; ++z) {
    T* slice = values + z * plane;
    for (std::int64_t y = 0; axes[1] && y < size[1] / 2; ++y) {
      std::swap_ranges(slice + y * size[2], slice + (y + 1) * size[2],
                       slice + (size[1] - 1 - y) * size[2]);
    }
    for (std::int64_t y = 0; axes[2] && y < size[1]; ++y) {
      std::reverse(slice + y * size[2], slice + (y + 1) * size[2]);
    }
  }
}

}  // namespace

void AugmentConfig::visit(ConfigVisitor& visitor) {
  visitor.value({.name = "foreground_fraction",
                 .help = "Share of patches centred on a random tumour voxel",
                 .min = 0,
                 .max = 1},
                foreground_fraction);
  visitor.value({.name = "mirror", .help = "Mirror each axis in half of the patches"}, mirror);
  visitor.value({.name = "rotation_probability",
                 .help = "Share of patches that are rotated about all three axes",
                 .min = 0,
                 .max = 1},
                rotation_probability);
  visitor.value(
      {.name = "rotation_degrees", .help = "Largest angle about each axis", .min = 0, .max = 180},
      rotation_degrees);
  visitor.value(
      {.name = "scale_probability", .help = "Share of patches that are scaled", .min = 0, .max = 1},
      scale_probability);
  visitor.value({.name = "scale_min",
                 .help = "Smallest factor of the field of view (below 1 the tumour gets larger)",
                 .min = 0.1,
                 .max = 10},
                scale_min);
  visitor.value(
      {.name = "scale_max", .help = "Largest factor of the field of view", .min = 0.1, .max = 10},
      scale_max);
  visitor.value({.name = "brightness_probability",
                 .help = "Share of patches whose channels are each shifted by a constant",
                 .min = 0,
                 .max = 1},
                brightness_probability);
  visitor.value({.name = "brightness_sigma",
                 .help = "Standard deviation of the shift, in z-scores",
                 .min = 0},
                brightness_sigma);
}

Patch crop_patch(const CaseData& item, Index start, Index size) {
  Patch patch = empty_patch(item, size);
  for (std::int64_t c = 0; c < item.channels; ++c) {
    copy_box(item.image.data() + c * volume(item.size), item.size, start,
             patch.image.data() + c * volume(size), size);
  }
  if (!item.labels.empty()) {
    copy_box(item.labels.data(), item.size, start, patch.labels.data(), size);
  }
  return patch;
}

SpatialMatrix make_spatial_matrix(std::array<double, 3> angles_zyx, double scale) {
  SpatialMatrix matrix = {scale, 0, 0, 0, scale, 0, 0, 0, scale};
  for (std::size_t axis = 0; axis < 3; ++axis) {
    // A rotation about one axis mixes the other two rows.
    const std::size_t u = axis == 0 ? 1 : 0;
    const std::size_t v = axis == 2 ? 1 : 2;
    const double cosine = std::cos(angles_zyx[axis]);
    const double sine = std::sin(angles_zyx[axis]);
    for (std::size_t column = 0; column < 3; ++column) {
      const double a = matrix[3 * u + column];
      const double b = matrix[3 * v + column];
      matrix[3 * u + column] = cosine * a - sine * b;
      matrix[3 * v + column] = sine * a + cosine * b;
    }
  }
  return matrix;
}

Patch resample_patch(const CaseData& item, Index start, Index size, const SpatialMatrix& matrix) {
  Patch patch = empty_patch(item, size);
  const std::int64_t plane = item.size[1] * item.size[2];
  const std::int64_t row = item.size[2];
  const std::int64_t case_volume = volume(item.size);
  const std::int64_t patch_volume = volume(size);
  std::array<double, 3> half{};
  for (std::size_t axis = 0; axis < 3; ++axis)
    half[axis] = 0.5 * static_cast<double>(size[axis] - 1);

  std::int64_t out = 0;
  for (std::int64_t z = 0; z < size[0]; ++z) {
    for (std::int64_t y = 0; y < size[1]; ++y) {
      std::array<double, 3> origin{};
      for (std::size_t axis = 0; axis < 3; ++axis) {
        origin[axis] = static_cast<double>(start[axis]) + half[axis] +
                       matrix[3 * axis] * (static_cast<double>(z) - half[0]) +
                       matrix[3 * axis + 1] * (static_cast<double>(y) - half[1]);
      }
      for (std::int64_t x = 0; x < size[2]; ++x, ++out) {
        Index low{};
        std::array<float, 3> weight{};
        bool near = true;    // at least a corner of the cell lies in the case
        bool inside = true;  // all of its corners do
        Index nearest{};
        bool nearest_inside = true;
        for (std::size_t axis = 0; axis < 3; ++axis) {
          const double position =
              origin[axis] + matrix[3 * axis + 2] * (static_cast<double>(x) - half[2]);
          const double floor = std::floor(position);
          low[axis] = static_cast<std::int64_t>(floor);
          weight[axis] = static_cast<float>(position - floor);
          near = near && low[axis] >= -1 && low[axis] < item.size[axis];
          inside = inside && low[axis] >= 0 && low[axis] + 1 < item.size[axis];
          nearest[axis] = low[axis] + (weight[axis] >= 0.5f ? 1 : 0);
          nearest_inside = nearest_inside && nearest[axis] >= 0 && nearest[axis] < item.size[axis];
        }
        if (!near) continue;
        if (nearest_inside && !item.labels.empty()) {
          patch.labels[static_cast<std::size_t>(out)] = item.labels[static_cast<std::size_t>(
              nearest[0] * plane + nearest[1] * row + nearest[2])];
        }
        const std::int64_t cell = low[0] * plane + low[1] * row + low[2];
        const float wz = weight[0];
        const float wy = weight[1];
        const float wx = weight[2];
        if (inside) {
          for (std::int64_t c = 0; c < item.channels; ++c) {
            const float* v = item.image.data() + c * case_volume + cell;
            const auto along_x = [wx](const float* p) { return p[0] + wx * (p[1] - p[0]); };
            const float top = along_x(v) + wy * (along_x(v + row) - along_x(v));
            const float bottom =
                along_x(v + plane) + wy * (along_x(v + plane + row) - along_x(v + plane));
            patch.image[static_cast<std::size_t>(c * patch_volume + out)] =
                top + wz * (bottom - top);
          }
          continue;
        }
        for (std::int64_t corner = 0; corner < 8; ++corner) {
          const Index step = {corner >> 2, (corner >> 1) & 1, corner & 1};
          float share = 1;
          bool exists = true;
          for (std::size_t axis = 0; axis < 3; ++axis) {
            share *= step[axis] == 1 ? weight[axis] : 1 - weight[axis];
            const std::int64_t i = low[axis] + step[axis];
            exists = exists && i >= 0 && i < item.size[axis];
          }
          if (!exists) continue;
          const std::int64_t offset = cell + step[0] * plane + step[1] * row + step[2];
          for (std::int64_t c = 0; c < item.channels; ++c) {
            patch.image[static_cast<std::size_t>(c * patch_volume + out)] +=
                share * item.image[static_cast<std::size_t>(c * case_volume + offset)];
          }
        }
      }
    }
  }
  return patch;
}

void mirror_patch(Patch& patch, std::array<bool, 3> axes) {
  for (std::int64_t c = 0; c < patch.channels; ++c) {
    mirror_volume(patch.image.data() + c * volume(patch.size), patch.size, axes);
  }
  mirror_volume(patch.labels.data(), patch.size, axes);
}

Patch sample_patch(const CaseData& item, Index size, const AugmentConfig& config, Random& random) {
  if (std::min({size[0], size[1], size[2]}) < 1) {
    throw Error(concat("patch size must be positive, got ", size[0], "x", size[1], "x", size[2]));
  }
  if (config.scale_min > config.scale_max) {
    throw Error(
        concat("augment: scale_min ", config.scale_min, " is above scale_max ", config.scale_max));
  }
  const bool on_tumour = random.chance(config.foreground_fraction);
  const double tumour_voxel = random.uniform();
  Index start{};
  for (std::size_t axis = 0; axis < 3; ++axis) {
    const std::int64_t room = std::max<std::int64_t>(item.size[axis] - size[axis], 0);
    start[axis] = random.integer(room + 1);
    if (room == 0) start[axis] = start_around(0, size[axis], item.size[axis]);
  }
  Index voxel{};
  if (on_tumour && find_tumour_voxel(item, tumour_voxel, voxel)) {
    for (std::size_t axis = 0; axis < 3; ++axis) {
      start[axis] = start_around(voxel[axis], size[axis], item.size[axis]);
    }
  }

  const bool rotate = random.chance(config.rotation_probability);
  std::array<double, 3> angles{};
  for (double& angle : angles) {
    angle = random.uniform(-1, 1) * config.rotation_degrees * std::numbers::pi / 180;
  }
  if (!rotate) angles.fill(0);
  const bool rescale = random.chance(config.scale_probability);
  // Half of the factors lie on either side of 1, as in batchgenerators.
  const bool shrink_view = random.chance(0.5);
  const double along = random.uniform();
  double scale = 1;
  if (rescale) {
    const double pivot = std::clamp(1.0, config.scale_min, config.scale_max);
    const double low = shrink_view ? config.scale_min : pivot;
    const double high = shrink_view ? pivot : config.scale_max;
    scale = low + along * (high - low);
  }
  std::array<bool, 3> flips{};
  for (bool& flip : flips) flip = random.chance(0.5) && config.mirror;

  Patch patch = rotate || rescale
                    ? resample_patch(item, start, size, make_spatial_matrix(angles, scale))
                    : crop_patch(item, start, size);
  mirror_patch(patch, flips);

  const bool brighten = random.chance(config.brightness_probability);
  for (std::int64_t c = 0; c < item.channels; ++c) {
    const auto shift = static_cast<float>(config.brightness_sigma * random.normal());
    if (!brighten) continue;
    const auto first = patch.image.begin() + c * volume(size);
    std::for_each(first, first + volume(size), [shift](float& value) { value += shift; });
  }
  return patch;
}

}  // namespace segmamba::data
