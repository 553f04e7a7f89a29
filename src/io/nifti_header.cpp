#include "nifti_header.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <span>
#include <string_view>
#include <tuple>
#include <utility>

#include "gzip_file.h"
#include "segmamba/core/error.h"
#include "segmamba/core/text.h"
#include "segmamba/io/nifti_style.h"

namespace segmamba::io {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kNifti1HeaderBytes = 348, kNifti2HeaderBytes = 540;
constexpr std::string_view kNifti2Mark("n+2\0\r\n\032\n", 8);

[[noreturn]] void fail(const fs::path& path, const std::string& what) {
  throw Error(concat(path.string(), ": ", what));
}

template <class T>
T load(std::span<const char> bytes, std::size_t offset, bool swap) {
  std::array<char, sizeof(T)> raw{};
  std::copy_n(bytes.begin() + static_cast<std::ptrdiff_t>(offset), sizeof(T), raw.begin());
  if (swap) std::reverse(raw.begin(), raw.end());
  return std::bit_cast<T>(raw);
}

template <class T>
void store(std::span<char> bytes, std::size_t offset, T value) {
  const auto raw = std::bit_cast<std::array<char, sizeof(T)>>(value);
  std::copy(raw.begin(), raw.end(), bytes.begin() + static_cast<std::ptrdiff_t>(offset));
}

bool has_magic(std::span<const char> bytes, std::size_t offset, std::string_view magic) {
  return std::equal(magic.begin(), magic.end(),
                    bytes.begin() + static_cast<std::ptrdiff_t>(offset));
}

NiftiHeader parse_nifti1(std::span<const char> bytes, bool swap) {
  NiftiHeader header;
  header.version = 1;
  header.swapped = swap;
  header.single_file = bytes[345] == '+';
  const auto f32 = [&](std::size_t offset) -> double { return load<float>(bytes, offset, swap); };
  const auto i16 = [&](std::size_t offset) { return load<std::int16_t>(bytes, offset, swap); };
  header.dim_info = static_cast<unsigned char>(bytes[39]);
  for (std::size_t i = 0; i < 8; ++i) {
    header.dim[i] = i16(40 + 2 * i);
    header.pixdim[i] = f32(76 + 4 * i);
  }
  header.datatype = i16(70);
  header.bits_per_voxel = i16(72);
  const double offset = f32(108);
  const bool whole = offset >= 0 && offset < 1e9 && offset == std::floor(offset);
  header.voxel_offset = whole ? static_cast<std::int64_t>(offset) : -1;
  header.slope = f32(112);
  header.intercept = f32(116);
  header.units = static_cast<unsigned char>(bytes[123]);
  header.qform_code = i16(252);
  header.sform_code = i16(254);
  for (std::size_t i = 0; i < 6; ++i) header.qform[i] = f32(256 + 4 * i);
  for (std::size_t i = 0; i < 12; ++i) header.sform[i] = f32(280 + 4 * i);
  return header;
}

NiftiHeader parse_nifti2(std::span<const char> bytes, bool swap) {
  NiftiHeader header;
  header.version = 2;
  header.swapped = swap;
  header.single_file = bytes[5] == '+';
  const auto f64 = [&](std::size_t offset) { return load<double>(bytes, offset, swap); };
  const auto i32 = [&](std::size_t offset) { return load<std::int32_t>(bytes, offset, swap); };
  header.datatype = load<std::int16_t>(bytes, 12, swap);
  header.bits_per_voxel = load<std::int16_t>(bytes, 14, swap);
  for (std::size_t i = 0; i < 8; ++i) {
    header.dim[i] = load<std::int64_t>(bytes, 16 + 8 * i, swap);
    header.pixdim[i] = f64(104 + 8 * i);
  }
  header.voxel_offset = load<std::int64_t>(bytes, 168, swap);
  header.slope = f64(176);
  header.intercept = f64(184);
  header.qform_code = i32(344);
  header.sform_code = i32(348);
  for (std::size_t i = 0; i < 6; ++i) header.qform[i] = f64(352 + 8 * i);
  for (std::size_t i = 0; i < 12; ++i) header.sform[i] = f64(400 + 8 * i);
  header.units = i32(500);
  header.dim_info = static_cast<unsigned char>(bytes[524]);
  return header;
}

NiftiHeader parse(const fs::path& path, std::span<const char> bytes) {
  if (bytes.size() < kNifti1HeaderBytes) {
    fail(path, concat("is not a NIfTI file: it holds ", bytes.size(), " bytes, a header has 348"));
  }
  for (const bool swap : {false, true}) {
    const auto size = load<std::int32_t>(bytes, 0, swap);
    if (size == static_cast<std::int32_t>(kNifti1HeaderBytes)) {
      using namespace std::string_view_literals;
      if (has_magic(bytes, 344, "n+1\0"sv) || has_magic(bytes, 344, "ni1\0"sv)) {
        return parse_nifti1(bytes, swap);
      }
      fail(path, "has no NIfTI mark (Analyze 7.5 files do not say where left is); convert it");
    }
    if (size == static_cast<std::int32_t>(kNifti2HeaderBytes) &&
        bytes.size() >= kNifti2HeaderBytes) {
      using namespace std::string_view_literals;
      if (has_magic(bytes, 4, kNifti2Mark) || has_magic(bytes, 4, "ni2\0\r\n\032\n"sv)) {
        return parse_nifti2(bytes, swap);
      }
    }
  }
  fail(path, "is not a NIfTI file, or its header is damaged");
}

struct Datatype {
  int code;
  int bits;
  std::string_view unsupported;  // its name, where it is not a real scalar that is read
};

constexpr Datatype readable(NiftiType type, int bits) { return {static_cast<int>(type), bits, ""}; }

constexpr std::array<Datatype, 16> kDatatypes = {{
    readable(NiftiType::kUint8, 8),
    readable(NiftiType::kInt16, 16),
    readable(NiftiType::kInt32, 32),
    readable(NiftiType::kFloat32, 32),
    readable(NiftiType::kFloat64, 64),
    readable(NiftiType::kInt8, 8),
    readable(NiftiType::kUint16, 16),
    readable(NiftiType::kUint32, 32),
    readable(NiftiType::kInt64, 64),
    readable(NiftiType::kUint64, 64),
    {32, 64, "complex"},
    {1792, 128, "complex"},
    {2048, 256, "complex"},
    {128, 24, "RGB"},
    {2304, 32, "RGBA"},
    {1536, 128, "128-bit float"},
}};

void check_dimensions(const fs::path& path, const NiftiHeader& header, Dimensions dimensions) {
  const auto rank = header.dim[0];
  if (rank < 1 || rank > 7) {
    fail(path, concat("header is damaged: ", rank, " dimensions (dim[0])"));
  }
  for (std::size_t i = 1; i <= static_cast<std::size_t>(rank); ++i) {
    if (header.dim[i] < 1) {
      fail(path, concat("header is damaged: size ", header.dim[i], " along axis ", i));
    }
    const std::size_t axes = dimensions == Dimensions::kThree ? 3 : 4;
    if (i > axes && header.dim[i] > 1) {
      fail(path, concat("is ", rank, "-D (", header.dim[i], " volumes along axis ", i,
                        "); a 3-D image is needed, so extract one volume first"));
    }
  }
  if (rank < 3) fail(path, concat("is ", rank, "-D; a 3-D image is needed"));
  // Each volume takes memory beside that of its voxels. NIfTI-1 has at most 32767 of them.
  constexpr std::int64_t kMostVolumes = std::int64_t{1} << 16;
  if (header.volumes() > kMostVolumes) {
    fail(path, concat("has ", header.volumes(), " volumes along axis 4; at most ", kMostVolumes,
                      " are read"));
  }
  // 2^40 voxels of 8 bytes stay far from overflow; the file itself has to hold them anyway.
  double voxels = 1;
  for (std::size_t i = 1; i <= 3; ++i) voxels *= static_cast<double>(header.dim[i]);
  voxels *= static_cast<double>(header.volumes());
  if (voxels > 0x1p40) fail(path, "header is damaged: more than 2^40 voxels");
}

void check_datatype(const fs::path& path, const NiftiHeader& header) {
  const auto* type =
      std::find_if(kDatatypes.begin(), kDatatypes.end(),
                   [&](const Datatype& candidate) { return candidate.code == header.datatype; });
  if (type == kDatatypes.end()) {
    fail(path, concat("header is damaged or its data type ", header.datatype, " is not supported"));
  }
  if (!type->unsupported.empty()) {
    fail(path, concat("holds ", type->unsupported, " voxels; a real scalar image is needed"));
  }
  if (header.bits_per_voxel != type->bits) {
    fail(path, concat("header is damaged: ", header.bits_per_voxel,
                      " bits a voxel (bitpix) for data type ", header.datatype, ", which has ",
                      type->bits));
  }
}

void check_rest(const fs::path& path, const NiftiHeader& header) {
  const std::int64_t first = header.single_file ? (header.version == 2 ? 544 : 352) : 0;
  if (header.voxel_offset < first || header.voxel_offset > 1'000'000'000) {
    fail(path, "header is damaged: impossible offset of the voxels (vox_offset)");
  }
  // A slope of 0 (or NaN, as nibabel writes) means that there is no scaling; tools disagree on
  // whether an intercept beside it counts.
  const bool unscaled = header.slope == 0 || std::isnan(header.slope);
  const bool sound = unscaled ? header.intercept == 0 || std::isnan(header.intercept)
                              : std::isfinite(header.slope) && std::isfinite(header.intercept) &&
                                    std::abs(header.slope) > 1e-15;
  if (!sound) {
    fail(path, concat("header is damaged: intensity scaling by scl_slope ", header.slope,
                      " and scl_inter ", header.intercept));
  }
  for (const int code : {header.qform_code, header.sform_code}) {
    if (code < 0 || code > 5) {
      fail(path, concat("header is damaged: unknown qform_code or sform_code ", code));
    }
  }
  const int length_unit = header.units & 7;
  if (length_unit == 1 || length_unit == 3) {
    fail(path, concat("gives lengths in ", length_unit == 1 ? "metres" : "micrometres",
                      " (xyzt_units), where medical images have mm; convert it"));
  }
}

std::pair<fs::path, fs::path> header_and_data(const fs::path& path) {
  const std::string name = path.filename().string();
  const auto with_suffix = [&](std::string_view old_suffix, std::string_view new_suffix) {
    return path.parent_path() /
           concat(std::string_view(name).substr(0, name.size() - old_suffix.size()), new_suffix);
  };
  if (ends_with(name, ".nii") || ends_with(name, ".nii.gz")) return {path, path};
  for (const std::string_view gz : {"", ".gz"}) {
    const std::string header = concat(".hdr", gz), data = concat(".img", gz);
    if (ends_with(name, header)) return {path, with_suffix(header, data)};
    if (ends_with(name, data)) return {with_suffix(data, header), path};
  }
  fail(path, "is not named as a NIfTI file (.nii, .nii.gz, or a pair .hdr and .img)");
}

}  // namespace

NiftiFile open_nifti(const fs::path& path, Dimensions dimensions) {
  NiftiFile file;
  std::tie(file.header_path, file.data_path) = header_and_data(path);
  std::error_code error;
  for (const auto& part : {file.header_path, file.data_path}) {
    const bool exists = fs::exists(part, error);
    if (error) throw ReadError(concat(part.string(), ": cannot be read: ", error.message()));
    if (!exists) fail(part, "does not exist");
  }
  std::array<char, kNifti2HeaderBytes> bytes{};
  InputFile input(file.header_path);
  const std::size_t count = input.read(bytes.data(), bytes.size());
  if (count > 0 && input.is_compressed() != ends_with(path.string(), ".gz")) {
    fail(path, input.is_compressed() ? "is compressed by gzip; name it .nii.gz"
                                     : "is not compressed by gzip although its name ends in .gz");
  }
  file.header = parse(file.header_path, std::span(bytes).first(count));
  if (file.header.single_file != (file.header_path == file.data_path)) {
    fail(path, "header is damaged or the file misnamed: its mark does not fit .nii or .hdr/.img");
  }
  check_dimensions(path, file.header, dimensions);
  check_datatype(path, file.header);
  check_rest(path, file.header);
  return file;
}

namespace {

void store_text(std::span<char> bytes, std::size_t offset, std::size_t length,
                std::string_view text) {
  // The field keeps a zero at its end.
  std::copy_n(text.begin(), std::min(text.size(), length - 1),
              bytes.begin() + static_cast<std::ptrdiff_t>(offset));
}

void store_nifti1(std::span<char> bytes, const NiftiHeader& header,
                  const std::string& description) {
  const auto i16 = [&](std::size_t offset, std::int64_t value) {
    store(bytes, offset, static_cast<std::int16_t>(value));
  };
  const auto f32 = [&](std::size_t offset, double value) {
    store(bytes, offset, static_cast<float>(value));
  };
  store(bytes, 0, static_cast<std::int32_t>(kNifti1HeaderBytes));
  bytes[39] = static_cast<char>(header.dim_info);
  for (std::size_t i = 0; i < 8; ++i) {
    i16(40 + 2 * i, header.dim[i]);
    f32(76 + 4 * i, header.pixdim[i]);
  }
  i16(70, header.datatype);
  i16(72, header.bits_per_voxel);
  f32(108, static_cast<double>(header.voxel_offset));
  f32(112, header.slope);
  f32(116, header.intercept);
  bytes[123] = static_cast<char>(header.units);
  store_text(bytes, 148, 80, description);
  i16(252, header.qform_code);
  i16(254, header.sform_code);
  for (std::size_t i = 0; i < 6; ++i) f32(256 + 4 * i, header.qform[i]);
  for (std::size_t i = 0; i < 12; ++i) f32(280 + 4 * i, header.sform[i]);
  store_text(bytes, 344, 4, "n+1");
}

void store_nifti2(std::span<char> bytes, const NiftiHeader& header,
                  const std::string& description) {
  const auto i32 = [&](std::size_t offset, int value) {
    store(bytes, offset, static_cast<std::int32_t>(value));
  };
  store(bytes, 0, static_cast<std::int32_t>(kNifti2HeaderBytes));
  std::copy(kNifti2Mark.begin(), kNifti2Mark.end(), bytes.begin() + 4);
  store(bytes, 12, static_cast<std::int16_t>(header.datatype));
  store(bytes, 14, static_cast<std::int16_t>(header.bits_per_voxel));
  for (std::size_t i = 0; i < 8; ++i) {
    store(bytes, 16 + 8 * i, header.dim[i]);
    store(bytes, 104 + 8 * i, header.pixdim[i]);
  }
  store(bytes, 168, header.voxel_offset);
  store(bytes, 176, header.slope);
  store(bytes, 184, header.intercept);
  store_text(bytes, 240, 80, description);
  i32(344, header.qform_code);
  i32(348, header.sform_code);
  for (std::size_t i = 0; i < 6; ++i) store(bytes, 352 + 8 * i, header.qform[i]);
  for (std::size_t i = 0; i < 12; ++i) store(bytes, 400 + 8 * i, header.sform[i]);
  i32(500, header.units);
  bytes[524] = static_cast<char>(header.dim_info);
}

}  // namespace

std::string header_bytes(const NiftiHeader& header, const std::string& description) {
  const bool is_second = header.version == 2;
  std::string bytes(is_second ? kNifti2HeaderBytes : kNifti1HeaderBytes, '\0');
  (is_second ? store_nifti2 : store_nifti1)(bytes, header, description);
  return bytes;
}

}  // namespace segmamba::io
