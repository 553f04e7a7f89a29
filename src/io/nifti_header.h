#pragma once
// NIfTI-1 and NIfTI-2 headers: parsed, checked against the file, and put back into outputs.
//
// ITK (and niftilib under it) trusts a header: a truncated or damaged file comes back as zeros;
// and it refuses NIfTI-2 and direction cosines that rounding has moved. So files are read here, and
// ITK only writes them. Field offsets: nifti1.h and nifti2.h of https://nifti.nimh.nih.gov.

#include <array>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>

#include "segmamba/io/nifti_style.h"
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

// The grid that the header describes: sform where it is set, else qform, else spacing alone (as
// nibabel chooses). Direction cosines that are orthonormal only nearly are replaced by the nearest
// orthonormal ones, and where that turns an axis by more than rounding explains, this is logged.
// Throws Error where they are sheared.
Geometry geometry_of(const NiftiFile& file);

// Whether `geometry` still is the grid of the header it came with (it may have been resampled).
bool still_describes(const NiftiHeader& header, const Geometry& geometry);

// Reads the file to its end and gives the bytes of the voxels of all volumes to `sink` in pieces of
// whole voxels (but for the last piece of a truncated file). Throws DamagedFileError where the file
// is shorter than its header says, or where gzip's check sum or stream is damaged.
void read_content(const NiftiFile& file, const std::function<void(std::span<const char>)>& sink);

inline constexpr std::size_t kNifti1HeaderBytes = 348;

// Replaces units, spacing, qform and sform in a NIfTI-1 header of this machine's byte order by
// those of `source`, and its description by `description`.
void restore_header(std::span<char, kNifti1HeaderBytes> bytes, const NiftiHeader& source);
void set_description(std::span<char, kNifti1HeaderBytes> bytes, const std::string& description);

// A NIfTI-1 header in this machine's byte order, without a description. `voxel_offset`: where the
// voxels will begin.
std::array<char, kNifti1HeaderBytes> make_header(const Geometry& geometry, const NiftiStyle& style,
                                                 std::int64_t voxel_offset);

}  // namespace segmamba::io
