#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "dicom_series.h"
#include "nifti_geometry.h"
#include "nifti_types.h"
#include "nifti_voxels.h"
#include "nifti_writer.h"
#include "segmamba/core/error.h"
#include "segmamba/core/text.h"
#include "segmamba/io/dicom.h"
#include "segmamba/io/nifti_style.h"
#include "segmamba/io/volume.h"

namespace segmamba::io {
namespace {

namespace fs = std::filesystem;

// Stored voxels are finite; scaling or rounding to float may still overflow.
void refuse_overflow(const fs::path& path, const std::vector<float>& voxels) {
  const auto overflown = std::count_if(voxels.begin(), voxels.end(),
                                       [](float value) { return !std::isfinite(value); });
  if (overflown == 0) return;
  throw NotFiniteError(concat(path.string(), ": ", overflown, " of ", voxels.size(),
                              " voxels are too large for float"));
}

void check_writable(const fs::path& path, const Geometry& geometry, std::size_t voxels) {
  const auto& size = geometry.size;
  if (*std::min_element(size.begin(), size.end()) >= 1 &&
      static_cast<std::size_t>(geometry.voxel_count()) == voxels) {
    return;
  }
  throw Error(concat("cannot write ", path.string(), ": ", voxels, " voxels do not fit a grid of ",
                     join(size, "x")));
}

// The voxels as they are.
template <class T>
void write_volume(const fs::path& path, const Volume<T>& volume, NiftiType type) {
  check_writable(path, volume.geometry, volume.voxels.size());
  write_nifti_voxels<T>(path, header_for(volume.geometry), {.type = type},
                        [&](std::int64_t first, std::span<T> stored) {
                          std::copy_n(volume.voxels.begin() + first, stored.size(), stored.begin());
                        });
}

// The number that stands for `value`. Throws Error where there is none.
template <class Stored>
Stored stored_number(const fs::path& path, double value, double slope, double intercept) {
  const double number = (value - intercept) / slope;
  if constexpr (std::is_floating_point_v<Stored>) {
    return static_cast<Stored>(number);
  } else {
    const double rounded = std::round(number);
    // As a power of two, the first number beyond the type is a double exactly.
    const double limit = std::ldexp(1.0, std::numeric_limits<Stored>::digits);
    const double lowest = std::is_signed_v<Stored> ? -limit : 0.0;
    if (!(rounded >= lowest && rounded < limit)) {
      throw Error(concat("cannot write ", path.string(), ": the voxel ", format_double(value),
                         " does not fit its stored type"));
    }
    return static_cast<Stored>(rounded);
  }
}

template <class T>
void write_styled(const fs::path& path, const Volume<T>& volume, const NiftiStyle& style) {
  check_writable(path, volume.geometry, volume.voxels.size());
  if (!std::isfinite(style.slope) || std::abs(style.slope) < 1e-15 ||
      !std::isfinite(style.intercept)) {
    throw Error(concat("cannot write ", path.string(), ": voxels cannot be scaled by a slope of ",
                       style.slope, " and an intercept of ", style.intercept));
  }
  const NiftiContent content{.type = style.type,
                             .slope = style.slope,
                             .intercept = style.intercept,
                             .extension = style.extension};
  // The header holds these as floats.
  const double slope = static_cast<float>(style.slope);
  const double intercept = static_cast<float>(style.intercept);
  visit_type(style.type, [&]<class Stored>() {
    write_nifti_voxels<Stored>(
        path, made_header(volume.geometry, style.cosine_errors), content,
        [&](std::int64_t first, std::span<Stored> stored) {
          std::transform(
              volume.voxels.begin() + first, volume.voxels.begin() + first + std::ssize(stored),
              stored.begin(),
              [&](T value) { return stored_number<Stored>(path, value, slope, intercept); });
        });
  });
}

// A file that has the volume. Throws Error.
NiftiFile open_with_volume(const fs::path& path, std::int64_t volume) {
  const bool is_only = volume == kOnlyVolume;
  NiftiFile file = open_nifti(path, is_only ? Dimensions::kThree : Dimensions::kThreeOrFour);
  if (!is_only && (volume < 0 || volume >= file.header.volumes())) {
    throw Error(concat(path.string(), ": has no volume ", volume, "; its volumes are 0 to ",
                       file.header.volumes() - 1));
  }
  return file;
}

void check_series_has(const fs::path& path, std::int64_t volume) {
  if (volume == kOnlyVolume || volume == 0) return;
  throw Error(concat(path.string(), ": has no volume ", volume, "; a DICOM series is volume 0"));
}

// With what is to be said of it.
Geometry told_geometry_of(const NiftiFile& file) {
  Geometry geometry = geometry_of(file);
  log_repair(file.header_path, direction_repair(geometry));
  return geometry;
}

}  // namespace

Geometry read_geometry(const fs::path& path, std::int64_t volume) {
  if (names_dicom_series(path)) {
    check_series_has(path, volume);
    return read_dicom_geometry(path);
  }
  return geometry_of(open_with_volume(path, volume));
}

Image read_image(const fs::path& path, std::int64_t volume) {
  if (names_dicom_series(path)) {
    check_series_has(path, volume);
    return read_dicom(path);
  }
  const NiftiFile file = open_with_volume(path, volume);
  Image image{told_geometry_of(file), {}};
  std::visit(
      [&]<class T>(std::vector<T>&& voxels) {
        if constexpr (std::is_same_v<T, float>) {
          image.voxels = std::move(voxels);
        } else {
          image.voxels.resize(voxels.size());
          std::transform(voxels.begin(), voxels.end(), image.voxels.begin(),
                         [](T value) { return static_cast<float>(value); });
        }
      },
      read_voxels(file, std::max<std::int64_t>(volume, 0), 1));
  refuse_overflow(path, image.voxels);
  return image;
}

std::vector<Image> read_images(const fs::path& path) {
  if (names_dicom_series(path)) {
    std::vector<Image> only;
    only.push_back(read_dicom(path));
    return only;
  }
  const NiftiFile file = open_nifti(path, Dimensions::kThreeOrFour);
  const Geometry geometry = told_geometry_of(file);
  const auto count = geometry.voxel_count();
  const Voxels stored = read_voxels(file, 0, file.header.volumes());
  std::vector<Image> images;
  images.reserve(static_cast<std::size_t>(file.header.volumes()));
  for (std::int64_t volume = 0; volume < file.header.volumes(); ++volume) {
    Image& image = images.emplace_back();
    image.geometry = geometry;
    image.voxels.resize(static_cast<std::size_t>(count));
    std::visit(
        [&](const auto& voxels) {
          std::transform(voxels.begin() + volume * count, voxels.begin() + (volume + 1) * count,
                         image.voxels.begin(),
                         [](auto value) { return static_cast<float>(value); });
        },
        stored);
    refuse_overflow(path, image.voxels);
  }
  return images;
}

std::int64_t count_volumes(const fs::path& path) {
  if (names_dicom_series(path)) return 1;
  return open_nifti(path, Dimensions::kThreeOrFour).header.volumes();
}

LabelMap read_labels(const fs::path& path) {
  const NiftiFile file = open_nifti(path);
  LabelMap labels{told_geometry_of(file), {}};
  Voxels stored = read_voxels(file, 0, 1);
  if (auto* bytes = std::get_if<std::vector<std::uint8_t>>(&stored)) {
    labels.voxels = std::move(*bytes);
    return labels;
  }
  std::visit(
      [&](const auto& voxels) {
        using Stored = typename std::decay_t<decltype(voxels)>::value_type;
        const auto is_label = [](Stored value) {
          if constexpr (std::is_floating_point_v<Stored>) {
            return value >= 0 && value <= 255 && value == std::floor(value);
          } else {
            return std::in_range<std::uint8_t>(value);
          }
        };
        const auto bad = std::count_if(voxels.begin(), voxels.end(),
                                       [&](Stored value) { return !is_label(value); });
        if (bad > 0) {
          const Stored first = *std::find_if_not(voxels.begin(), voxels.end(), is_label);
          throw NotLabelsError(
              concat(path.string(), ": not a label map: ", bad, " of ", voxels.size(),
                     " voxels are not whole numbers from 0 to 255 (the first is ", +first, ")"));
        }
        labels.voxels.resize(voxels.size());
        std::transform(voxels.begin(), voxels.end(), labels.voxels.begin(),
                       [](Stored value) { return static_cast<std::uint8_t>(value); });
      },
      stored);
  return labels;
}

void write_image(const fs::path& path, const Image& image) {
  write_volume(path, image, NiftiType::kFloat32);
}

void write_labels(const fs::path& path, const LabelMap& labels) {
  write_volume(path, labels, NiftiType::kUint8);
}

void write_image(const fs::path& path, const Image& image, const NiftiStyle& style) {
  write_styled(path, image, style);
}

void write_labels(const fs::path& path, const LabelMap& labels, const NiftiStyle& style) {
  write_styled(path, labels, style);
}

}  // namespace segmamba::io
