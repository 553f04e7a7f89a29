#pragma once
// NIfTI-1 and NIfTI-2 headers: parsed and checked against the file, and written.
//
// Files are read and written here and not through ITK, which (by niftilib) trusts a header: a
// truncated or damaged file comes back as zeros; which refuses NIfTI-2 and direction cosines that
// rounding has moved; and which writes another header than that of the input. Field offsets:
// nifti1.h and nifti2.h of https://nifti.nimh.nih.gov.

#include <array>
#include <cstdint>
#include <filesystem>
#include <string>

#include "segmamba/io/volume.h"

namespace segmamba::io {

struct NiftiHeader {
  int version = 1;          // NIfTI-1 or NIfTI-2
  bool swapped = false;     // byte order differs from this machine's
  bool single_file = true;  // false: .hdr + .img
  int datatype = 0;         // a NiftiType
  int bits_per_voxel = 0;
  std::array<std::int64_t, 8> dim{};
  std::int64_t voxel_offset = 0;  // of the first voxel in the (decompressed) file
  double slope = 0, intercept = 0;

  // What an output gets back unchanged. NIfTI-1 stores floats, which double holds exactly.
  int dim_info = 0, units = 0, qform_code = 0, sform_code = 0;
  std::array<double, 8> pixdim{};
  std::array<double, 6> qform{};   // quatern_b, c, d, qoffset_x, y, z
  std::array<double, 12> sform{};  // srow_x, srow_y, srow_z

  std::int64_t volumes() const { return dim[0] >= 4 ? dim[4] : 1; }
  std::int64_t volume_bytes() const { return dim[1] * dim[2] * dim[3] * bits_per_voxel / 8; }
  std::int64_t data_bytes() const { return volumes() * volume_bytes(); }
};

struct NiftiFile {
  std::filesystem::path header_path, data_path;  // the same but for a .hdr/.img pair
  NiftiHeader header;
};

enum class Dimensions {
  kThree,  // a fourth axis of length 1 is taken
  kThreeOrFour,
};

// The header of `path` (.nii, .nii.gz, .hdr or .img), checked: a real-valued scalar image with a
// sound geometry. Reads a few hundred bytes. Throws Error naming the file.
NiftiFile open_nifti(const std::filesystem::path& path, Dimensions dimensions = Dimensions::kThree);

// The header as the first bytes of a single file of `header.version`, in this machine's byte order.
// `description`: what made the file; cut to 79 bytes.
std::string header_bytes(const NiftiHeader& header, const std::string& description);

}  // namespace segmamba::io
