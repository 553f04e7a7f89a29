#pragma once
// NIfTI files as other programs store them: what the same volume looks like on disk.

#include <array>
#include <filesystem>
#include <string>

#include "segmamba/io/volume.h"

namespace segmamba::io {

// NIFTI_TYPE_* of nifti1.h, those that are read.
enum class NiftiType {
  kUint8 = 2,
  kInt16 = 4,
  kInt32 = 8,
  kFloat32 = 16,
  kFloat64 = 64,
  kInt8 = 256,
  kUint16 = 512,
  kUint32 = 768,
  kInt64 = 1024,
  kUint64 = 1280,
};

struct NiftiStyle {
  NiftiType type = NiftiType::kFloat32;
  // A voxel of value v is stored as (v - intercept) / slope, for integer types rounded.
  double slope = 1, intercept = 0;
  // Text of a header extension (a comment, NIFTI_ECODE_COMMENT); "" for none. The voxels begin
  // after it, at a multiple of 16 bytes. Less than 1 MiB.
  std::string extension;
  // Added to the direction cosines in the sform, not in the qform (row-major 3x3, as
  // Geometry::direction): registration tools leave cosines that are not quite orthonormal.
  std::array<double, 9> cosine_errors{};
};

// As write_image and write_labels of volume.h, but in this style. A single-file NIfTI-1 with sform
// and qform made from the geometry; the header that the geometry may have come with is not used.
// Throws Error where a voxel does not fit the type, too.
void write_image(const std::filesystem::path& path, const Image& image, const NiftiStyle& style);
void write_labels(const std::filesystem::path& path, const LabelMap& labels,
                  const NiftiStyle& style);

}  // namespace segmamba::io
