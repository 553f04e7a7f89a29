#include <zlib.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <fstream>
#include <limits>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "itk_nifti.h"
#include "nifti_header.h"
#include "nifti_voxels.h"
#include "segmamba/core/error.h"
#include "segmamba/core/files.h"
#include "segmamba/core/text.h"
#include "segmamba/core/version.h"
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

// Level 6 of zlib and no time stamp: the same voxels give the same file.
class GzipWriter {
 public:
  explicit GzipWriter(const fs::path& path) : path_(path), file_(gzopen(path.c_str(), "wb6")) {
    if (file_ == nullptr) fail();
    gzbuffer(file_, 1 << 18);
  }
  ~GzipWriter() {
    if (file_ != nullptr) gzclose(file_);
  }
  GzipWriter(const GzipWriter&) = delete;
  GzipWriter& operator=(const GzipWriter&) = delete;

  void write(const char* data, std::size_t size) {
    if (size > 0 && gzwrite(file_, data, static_cast<unsigned>(size)) <= 0) fail();
  }
  void close() {
    if (gzclose(std::exchange(file_, nullptr)) != Z_OK) fail();
  }

 private:
  [[noreturn]] void fail() {
    throw Error(concat("cannot write ", path_.string(), " (is the disk full?)"));
  }
  fs::path path_;
  gzFile file_;
};

void compress(const fs::path& source, const fs::path& target) {
  std::ifstream input(source, std::ios::binary);
  GzipWriter output(target);
  std::vector<char> buffer(std::size_t{1} << 18);
  while (input) {
    input.read(buffer.data(), static_cast<std::streamsize>(buffer.size()));
    output.write(buffer.data(), static_cast<std::size_t>(input.gcount()));
  }
  if (!input.eof()) throw Error(concat("cannot read ", source.string()));
  output.close();
}

std::string description() { return concat("segmamba ", version()); }

void finish_header(const fs::path& path, const Geometry& geometry) {
  std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
  std::array<char, kNifti1HeaderBytes> bytes{};
  file.read(bytes.data(), bytes.size());
  if (geometry.header && still_describes(*geometry.header, geometry)) {
    restore_header(bytes, *geometry.header);
  }
  set_description(bytes, description());
  file.seekp(0);
  file.write(bytes.data(), bytes.size());
  file.close();
  if (!file) throw Error(concat("cannot write ", path.string(), " (is the disk full?)"));
}

void check_writable(const fs::path& path, const Geometry& geometry, std::size_t voxels) {
  const std::string name = path.filename().string();
  if (!ends_with(name, ".nii.gz") && !ends_with(name, ".nii")) {
    throw Error(concat("cannot write ", path.string(), ": the name must end in .nii or .nii.gz"));
  }
  const auto& size = geometry.size;
  if (*std::min_element(size.begin(), size.end()) < 1 ||
      *std::max_element(size.begin(), size.end()) > INT16_MAX ||
      static_cast<std::size_t>(geometry.voxel_count()) != voxels) {
    throw Error(concat("cannot write ", path.string(), ": ", voxels,
                       " voxels do not fit a grid of ", join(size, "x")));
  }
}

template <class T>
void write_volume(const fs::path& path, const Volume<T>& volume) {
  check_writable(path, volume.geometry, volume.voxels.size());
  write_file_atomically(path, [&](const fs::path& temporary) {
    const std::span<const T> voxels(volume.voxels);
    if (path.extension() != ".gz") {
      write_nifti(temporary, volume.geometry, voxels);
      finish_header(temporary, volume.geometry);
      return;
    }
    const fs::path plain = temporary.parent_path() / temporary.stem();
    try {
      write_nifti(plain, volume.geometry, voxels);
      finish_header(plain, volume.geometry);
      compress(plain, temporary);
    } catch (...) {
      std::error_code ignored;
      fs::remove(plain, ignored);
      throw;
    }
    fs::remove(plain);
  });
}

// Everything between the header and the first voxel: the mark of an extension, and the extension.
std::string extension_bytes(const fs::path& path, const std::string& text) {
  constexpr std::size_t kMark = 4, kPrefix = 8, kAlignment = 16, kLargest = std::size_t{1} << 20;
  std::string bytes(kMark, '\0');
  if (text.empty()) return bytes;
  if (text.size() >= kLargest) {
    throw Error(concat("cannot write ", path.string(), ": a header extension of ",
                       format_bytes(text.size()), " is too long"));
  }
  bytes[0] = 1;
  constexpr std::int32_t kComment = 6;
  const std::size_t size = (kPrefix + text.size() + kAlignment - 1) / kAlignment * kAlignment;
  for (const std::int32_t field : {static_cast<std::int32_t>(size), kComment}) {
    const auto raw = std::bit_cast<std::array<char, sizeof(field)>>(field);
    bytes.append(raw.begin(), raw.end());
  }
  bytes += text;
  bytes.resize(kMark + size, '\0');
  return bytes;
}

// One plane of voxels after the other, as numbers of type Stored.
template <class Stored, class T, class Sink>
void write_voxels(const fs::path& path, const Volume<T>& volume, const NiftiStyle& style,
                  const Sink& sink) {
  const auto& size = volume.geometry.size;
  std::vector<Stored> plane(static_cast<std::size_t>(size[0] * size[1]));
  // The header holds these as floats.
  const double slope = static_cast<float>(style.slope);
  const double intercept = static_cast<float>(style.intercept);
  const T* source = volume.voxels.data();
  for (std::int64_t z = 0; z < size[2]; ++z) {
    for (Stored& stored : plane) {
      const double value = (static_cast<double>(*source++) - intercept) / slope;
      if constexpr (std::is_floating_point_v<Stored>) {
        stored = static_cast<Stored>(value);
      } else {
        const double rounded = std::round(value);
        // As a power of two, the first number beyond the type is a double exactly.
        const double limit = std::ldexp(1.0, std::numeric_limits<Stored>::digits);
        const double lowest = std::is_signed_v<Stored> ? -limit : 0.0;
        if (!(rounded >= lowest && rounded < limit)) {
          throw Error(concat("cannot write ", path.string(), ": the voxel ",
                             format_double(static_cast<double>(source[-1])),
                             " does not fit its stored type"));
        }
        stored = static_cast<Stored>(rounded);
      }
    }
    sink(reinterpret_cast<const char*>(plane.data()), plane.size() * sizeof(Stored));
  }
}

template <class T, class Sink>
void write_voxels_as(const fs::path& path, const Volume<T>& volume, const NiftiStyle& style,
                     const Sink& sink) {
  switch (style.type) {
    case NiftiType::kUint8:
      return write_voxels<std::uint8_t>(path, volume, style, sink);
    case NiftiType::kInt8:
      return write_voxels<std::int8_t>(path, volume, style, sink);
    case NiftiType::kUint16:
      return write_voxels<std::uint16_t>(path, volume, style, sink);
    case NiftiType::kInt16:
      return write_voxels<std::int16_t>(path, volume, style, sink);
    case NiftiType::kUint32:
      return write_voxels<std::uint32_t>(path, volume, style, sink);
    case NiftiType::kInt32:
      return write_voxels<std::int32_t>(path, volume, style, sink);
    case NiftiType::kUint64:
      return write_voxels<std::uint64_t>(path, volume, style, sink);
    case NiftiType::kInt64:
      return write_voxels<std::int64_t>(path, volume, style, sink);
    case NiftiType::kFloat32:
      return write_voxels<float>(path, volume, style, sink);
    case NiftiType::kFloat64:
      return write_voxels<double>(path, volume, style, sink);
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
  const std::string extension = extension_bytes(path, style.extension);
  auto header = make_header(volume.geometry, style,
                            static_cast<std::int64_t>(kNifti1HeaderBytes + extension.size()));
  set_description(header, description());
  const auto write_to = [&](const auto& sink) {
    sink(header.data(), header.size());
    sink(extension.data(), extension.size());
    write_voxels_as(path, volume, style, sink);
  };
  write_file_atomically(path, [&](const fs::path& temporary) {
    if (path.extension() == ".gz") {
      GzipWriter file(temporary);
      write_to([&](const char* data, std::size_t size) { file.write(data, size); });
      file.close();
      return;
    }
    std::ofstream file(temporary, std::ios::binary);
    write_to([&](const char* data, std::size_t size) {
      file.write(data, static_cast<std::streamsize>(size));
    });
    file.close();
    if (!file) throw Error(concat("cannot write ", path.string(), " (is the disk full?)"));
  });
}

}  // namespace

Geometry read_geometry(const fs::path& path) { return geometry_of(open_nifti(path)); }

Image read_image(const fs::path& path, std::int64_t volume) {
  const bool is_only = volume == kOnlyVolume;
  const NiftiFile file = open_nifti(path, is_only ? Dimensions::kThree : Dimensions::kThreeOrFour);
  if (!is_only && (volume < 0 || volume >= file.header.volumes())) {
    throw Error(concat(path.string(), ": has no volume ", volume, "; its volumes are 0 to ",
                       file.header.volumes() - 1));
  }
  Image image{geometry_of(file), {}};
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
      read_voxels(file, is_only ? 0 : volume, 1));
  refuse_overflow(path, image.voxels);
  return image;
}

std::vector<Image> read_images(const fs::path& path) {
  const NiftiFile file = open_nifti(path, Dimensions::kThreeOrFour);
  const Geometry geometry = geometry_of(file);
  const auto count = geometry.voxel_count();
  const Voxels stored = read_voxels(file, 0, file.header.volumes());
  std::vector<Image> images;
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
  return open_nifti(path, Dimensions::kThreeOrFour).header.volumes();
}

LabelMap read_labels(const fs::path& path) {
  const NiftiFile file = open_nifti(path);
  LabelMap labels{geometry_of(file), {}};
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

void write_image(const fs::path& path, const Image& image) { write_volume(path, image); }

void write_labels(const fs::path& path, const LabelMap& labels) { write_volume(path, labels); }

void write_image(const fs::path& path, const Image& image, const NiftiStyle& style) {
  write_styled(path, image, style);
}

void write_labels(const fs::path& path, const LabelMap& labels, const NiftiStyle& style) {
  write_styled(path, labels, style);
}

}  // namespace segmamba::io
