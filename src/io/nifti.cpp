#include <zlib.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <fstream>
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
#include "segmamba/io/volume.h"

namespace segmamba::io {
namespace {

namespace fs = std::filesystem;

std::pair<Geometry, Voxels> read_volume(const fs::path& path) {
  const NiftiFile file = open_nifti(path);
  Geometry geometry = geometry_of(file);
  return {std::move(geometry), read_voxels(file)};
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

void finish_header(const fs::path& path, const Geometry& geometry) {
  std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
  std::array<char, kNifti1HeaderBytes> bytes{};
  file.read(bytes.data(), bytes.size());
  if (geometry.header && still_describes(*geometry.header, geometry)) {
    restore_header(bytes, *geometry.header);
  }
  set_description(bytes, concat("segmamba ", version()));
  file.seekp(0);
  file.write(bytes.data(), bytes.size());
  file.close();
  if (!file) throw Error(concat("cannot write ", path.string(), " (is the disk full?)"));
}

template <class T>
void write_volume(const fs::path& path, const Volume<T>& volume) {
  const std::string name = path.filename().string();
  const bool compressed = ends_with(name, ".nii.gz");
  if (!compressed && !ends_with(name, ".nii")) {
    throw Error(concat("cannot write ", path.string(), ": the name must end in .nii or .nii.gz"));
  }
  const auto& size = volume.geometry.size;
  if (*std::min_element(size.begin(), size.end()) < 1 ||
      *std::max_element(size.begin(), size.end()) > INT16_MAX ||
      static_cast<std::size_t>(volume.geometry.voxel_count()) != volume.voxels.size()) {
    throw Error(concat("cannot write ", path.string(), ": ", volume.voxels.size(),
                       " voxels do not fit a grid of ", join(size, "x")));
  }
  write_file_atomically(path, [&](const fs::path& temporary) {
    const std::span<const T> voxels(volume.voxels);
    if (!compressed) {
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

}  // namespace

Geometry read_geometry(const fs::path& path) { return geometry_of(open_nifti(path)); }

Image read_image(const fs::path& path) {
  auto [geometry, stored] = read_volume(path);
  Image image{std::move(geometry), {}};
  if (auto* floats = std::get_if<std::vector<float>>(&stored)) {
    image.voxels = std::move(*floats);
  } else {
    std::visit(
        [&](const auto& voxels) {
          image.voxels.resize(voxels.size());
          std::transform(voxels.begin(), voxels.end(), image.voxels.begin(),
                         [](auto value) { return static_cast<float>(value); });
        },
        stored);
  }
  // Stored voxels are finite; scaling or rounding to float may still overflow.
  const auto overflown = std::count_if(image.voxels.begin(), image.voxels.end(),
                                       [](float value) { return !std::isfinite(value); });
  if (overflown > 0) {
    throw Error(concat(path.string(), ": ", overflown, " of ", image.voxels.size(),
                       " voxels are too large for float"));
  }
  return image;
}

LabelMap read_labels(const fs::path& path) {
  auto [geometry, stored] = read_volume(path);
  LabelMap labels{std::move(geometry), {}};
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

}  // namespace segmamba::io
