#pragma once
// Volumes with their place in the world. ITK is used in the .cpp files only.

#include <array>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "segmamba/core/error.h"

namespace segmamba::io {

// Header fields that ITK does not carry (qform/sform codes and matrices, units, description ...),
// kept so that an output gets exactly the input's header. Opaque outside io.
struct NiftiHeader;

// Index order here is (x, y, z), as in the file. Units: mm.
struct Geometry {
  std::array<std::int64_t, 3> size{};
  std::array<double, 3> spacing{1, 1, 1};
  std::array<double, 3> origin{};
  // Row-major 3x3; column j is the direction of index axis j in LPS world space (ITK's).
  std::array<double, 9> direction{1, 0, 0, 0, 1, 0, 0, 0, 1};
  // Null where the volume did not come from a NIfTI file.
  std::shared_ptr<const NiftiHeader> header;

  std::int64_t voxel_count() const { return size[0] * size[1] * size[2]; }
};

// "" where the two describe the same grid (sizes equal; spacing, origin and direction within
// `tolerance` relative to the spacing); otherwise what differs, in words.
std::string geometry_difference(const Geometry& a, const Geometry& b, double tolerance = 1e-3);

// Voxels x-fastest: the memory of a [D, H, W] = [z, y, x] tensor.
template <class T>
struct Volume {
  Geometry geometry;
  std::vector<T> voxels;
};

using Image = Volume<float>;
using LabelMap = Volume<std::uint8_t>;

// Size, spacing etc. without the voxels. Throws Error naming the file.
Geometry read_geometry(const std::filesystem::path& path);
// A 3-D scalar image, scaled by the header's slope and intercept. Throws Error naming the file
// where it is missing, damaged, truncated, not 3-D, complex or RGB, or not finite in its geometry.
Image read_image(const std::filesystem::path& path);

// A sound file that holds no label map: some voxel is not a whole number from 0 to 255.
class NotLabelsError : public Error {
 public:
  using Error::Error;
};

// A label map: voxels must be integers 0..255 (of any stored type), else NotLabelsError. Throws
// Error as read_image.
LabelMap read_labels(const std::filesystem::path& path);

// Atomic; .nii or .nii.gz by the name. Geometry (and the header it came from) is kept exactly.
void write_image(const std::filesystem::path& path, const Image& image);
void write_labels(const std::filesystem::path& path, const LabelMap& labels);

}  // namespace segmamba::io
