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
// UIDs, patient and study of a DICOM series, which a segmentation of it repeats. Opaque outside io.
struct DicomSeries;

// Index order here is (x, y, z), as in the file. Units: mm.
struct Geometry {
  std::array<std::int64_t, 3> size{};
  std::array<double, 3> spacing{1, 1, 1};
  std::array<double, 3> origin{};
  // Row-major 3x3; column j is the direction of index axis j in LPS world space (ITK's).
  std::array<double, 9> direction{1, 0, 0, 0, 1, 0, 0, 0, 1};
  // Null where the volume did not come from a NIfTI file.
  std::shared_ptr<const NiftiHeader> header;
  // Null where the volume did not come from a DICOM series.
  std::shared_ptr<const DicomSeries> dicom;

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

// What was done on reading to the directions of a header. Nothing where the geometry did not come
// from a file.
struct DirectionRepair {
  double largest_change = 0;   // of a direction cosine, to make them orthonormal; at most 0.01
  bool sheared_sform = false;  // the qform was taken instead
};
DirectionRepair direction_repair(const Geometry& geometry);

// The kinds of Error that a reader may want to tell apart.

// The content is not what was written: truncated, or gzip's check sum or stream does not fit.
class DamagedFileError : public Error {
 public:
  using Error::Error;
};
// Some voxel is NaN or infinite.
class NotFiniteError : public Error {
 public:
  using Error::Error;
};
// A sound file that holds no label map: some voxel is not a whole number from 0 to 255.
class NotLabelsError : public Error {
 public:
  using Error::Error;
};

// A volume to read is a NIfTI file or a DICOM series (dicom.h: FOLDER or FOLDER#SERIES_UID), which
// is 3-D. Label maps are NIfTI files.

// The volume of a file that must be 3-D (a fourth axis of length 1 is taken).
inline constexpr std::int64_t kOnlyVolume = -1;

// Size, spacing etc. of what read_image gives, without the voxels; what is to be said of the header
// (direction_repair) is left to that. Throws Error naming the file.
Geometry read_geometry(const std::filesystem::path& path, std::int64_t volume = kOnlyVolume);

// A scalar image, scaled by the header's slope and intercept: that of a 3-D file, or volume
// `volume` >= 0 (along the fourth axis) of a 4-D one; a 3-D file is its own volume 0. Throws Error
// naming the file where it is missing, damaged, truncated, not 3-D, without such a volume, complex
// or RGB, or not finite in its voxels or geometry.
Image read_image(const std::filesystem::path& path, std::int64_t volume = kOnlyVolume);
// Every volume of a 3-D or 4-D file, which is unpacked once. Throws Error as read_image.
std::vector<Image> read_images(const std::filesystem::path& path);
// How many volumes a 3-D or 4-D file has by its header. Throws Error.
std::int64_t count_volumes(const std::filesystem::path& path);

// A label map: voxels must be integers 0..255 (of any stored type), else NotLabelsError. Throws
// Error as read_image.
LabelMap read_labels(const std::filesystem::path& path);

// Atomic; .nii or .nii.gz by the name. Geometry (and the header it came from) is kept exactly.
void write_image(const std::filesystem::path& path, const Image& image);
void write_labels(const std::filesystem::path& path, const LabelMap& labels);

}  // namespace segmamba::io
