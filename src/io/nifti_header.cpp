#include "nifti_header.h"

#include <libdeflate.h>
#include <zlib.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <fstream>
#include <memory>
#include <optional>
#include <tuple>
#include <utility>
#include <vector>

#include "segmamba/core/error.h"
#include "segmamba/core/log.h"
#include "segmamba/core/text.h"

namespace segmamba::io {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kNifti2HeaderBytes = 540;
// Largest entry by which direction cosines may differ from the nearest orthonormal ones. Files of
// registration tools are off by 1e-6 to 1e-3; 0.01 is about half a degree of shear.
constexpr double kMaximumRepair = 0.01;
// What a few decimals in a text header explain; for the debug log. Below the second, float itself.
constexpr double kRoundingRepair = 1e-4, kFloatRepair = 1e-6;
// Bytes after the last voxel that are read through (for the check sum of gzip) before giving up.
constexpr std::int64_t kMaximumTrailing = std::int64_t{1} << 26;

[[noreturn]] void fail(const fs::path& path, const std::string& what) {
  throw Error(concat(path.string(), ": ", what));
}

[[noreturn]] void fail_damaged(const fs::path& path, const std::string& what) {
  throw DamagedFileError(concat(path.string(), ": ", what));
}

// gzip and plain files alike.
class InputFile {
 public:
  explicit InputFile(const fs::path& path) : path_(path) {
    std::error_code error;
    if (fs::is_directory(path, error)) fail(path, "is a folder, not a NIfTI file");
    errno = 0;
    file_ = gzopen(path.c_str(), "rb");
    if (file_ == nullptr) fail(path, concat("cannot be read: ", std::strerror(errno)));
    gzbuffer(file_, 1 << 18);
  }
  ~InputFile() { gzclose(file_); }
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  // Up to `size` bytes; fewer only at the end of the file. Throws Error on damaged gzip streams.
  std::size_t read(char* target, std::size_t size) {
    const int count = gzread(file_, target, static_cast<unsigned>(size));
    int code = Z_OK;
    const char* message = gzerror(file_, &code);
    if (count < 0 || (code != Z_OK && code != Z_STREAM_END)) {
      if (code == Z_BUF_ERROR) fail_damaged(path_, "is truncated: the gzip stream ends too early");
      if (code == Z_ERRNO) fail(path_, concat("cannot be read: ", std::strerror(errno)));
      fail_damaged(path_, concat("is damaged: gzip reports \"", message, "\""));
    }
    return static_cast<std::size_t>(count);
  }
  bool is_compressed() { return gzdirect(file_) == 0; }

 private:
  fs::path path_;
  gzFile file_ = nullptr;
};

template <class T>
T load(std::span<const char> bytes, std::size_t offset, bool swap) {
  std::array<char, sizeof(T)> raw{};
  std::copy_n(bytes.begin() + static_cast<std::ptrdiff_t>(offset), sizeof(T), raw.begin());
  if (swap) std::reverse(raw.begin(), raw.end());
  return std::bit_cast<T>(raw);
}

template <class T>
void store(std::span<char> bytes, std::size_t offset, T value, bool swap = false) {
  auto raw = std::bit_cast<std::array<char, sizeof(T)>>(value);
  if (swap) std::reverse(raw.begin(), raw.end());
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
      if (has_magic(bytes, 4, "n+2\0\r\n\032\n"sv) || has_magic(bytes, 4, "ni2\0\r\n\032\n"sv)) {
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

using Matrix = std::array<double, 9>;  // row-major 3x3

double determinant(const Matrix& m) {
  return m[0] * (m[4] * m[8] - m[5] * m[7]) - m[1] * (m[3] * m[8] - m[5] * m[6]) +
         m[2] * (m[3] * m[7] - m[4] * m[6]);
}

// The transpose of the inverse: cofactors over the determinant.
Matrix inverse_transposed(const Matrix& m) {
  const double scale = 1 / determinant(m);
  Matrix result{};
  for (std::size_t row = 0; row < 3; ++row) {
    for (std::size_t column = 0; column < 3; ++column) {
      const std::size_t r1 = (row + 1) % 3, r2 = (row + 2) % 3;
      const std::size_t c1 = (column + 1) % 3, c2 = (column + 2) % 3;
      result[3 * row + column] =
          scale * (m[3 * r1 + c1] * m[3 * r2 + c2] - m[3 * r1 + c2] * m[3 * r2 + c1]);
    }
  }
  return result;
}

// The nearest orthonormal matrix (rotation, or rotation and reflection as the input's handedness):
// the polar factor by Newton's iteration, Higham, "Computing the polar decomposition", 1986.
Matrix nearest_orthonormal(Matrix m) {
  constexpr int kIterations = 30;
  for (int iteration = 0; iteration < kIterations; ++iteration) {
    const Matrix other = inverse_transposed(m);
    double change = 0;
    for (std::size_t i = 0; i < m.size(); ++i) {
      const double next = (m[i] + other[i]) / 2;
      change = std::max(change, std::abs(next - m[i]));
      m[i] = next;
    }
    if (change < 1e-15) break;
  }
  return m;
}

// Index to world (RAS, mm): [rows 3][columns 3] and the offset.
struct Affine {
  Matrix matrix{};
  std::array<double, 3> offset{};
};

Affine sform_affine(const NiftiHeader& header) {
  Affine affine;
  for (std::size_t row = 0; row < 3; ++row) {
    for (std::size_t column = 0; column < 3; ++column) {
      affine.matrix[3 * row + column] = header.sform[4 * row + column];
    }
    affine.offset[row] = header.sform[4 * row + 3];
  }
  return affine;
}

// "METHOD 2" of nifti1.h.
Affine qform_affine(const fs::path& path, const NiftiHeader& header) {
  if (header.pixdim[0] != 1 && header.pixdim[0] != -1 && header.pixdim[0] != 0) {
    fail(path, "header is damaged: pixdim[0] must be 1 or -1 with a qform");
  }
  double b = header.qform[0], c = header.qform[1], d = header.qform[2];
  const double rest = 1 - (b * b + c * c + d * d);
  // Three floats that should have length 1 miss it by a few of these.
  constexpr double kRounding = 1e-6;
  if (rest < -kRounding) fail(path, "header is damaged: the qform's quaternion is longer than 1");
  double a = std::sqrt(std::max(rest, 0.0));
  const double length = std::sqrt(a * a + b * b + c * c + d * d);
  a /= length, b /= length, c /= length, d /= length;
  const Matrix rotation = {
      a * a + b * b - c * c - d * d, 2 * (b * c - a * d),           2 * (b * d + a * c),
      2 * (b * c + a * d),           a * a + c * c - b * b - d * d, 2 * (c * d - a * b),
      2 * (b * d - a * c),           2 * (c * d + a * b),           a * a + d * d - b * b - c * c};
  const double qfac = header.pixdim[0] < 0 ? -1 : 1;
  Affine affine;
  for (std::size_t row = 0; row < 3; ++row) {
    for (std::size_t column = 0; column < 3; ++column) {
      const double spacing = std::abs(header.pixdim[column + 1]) * (column == 2 ? qfac : 1);
      affine.matrix[3 * row + column] = rotation[3 * row + column] * spacing;
    }
    affine.offset[row] = header.qform[3 + row];
  }
  return affine;
}

// With neither form there is no world space; ITK then takes LPS axes, and so does this.
Affine spacing_affine(const NiftiHeader& header) {
  Affine affine;
  affine.matrix[0] = -std::abs(header.pixdim[1]);
  affine.matrix[4] = -std::abs(header.pixdim[2]);
  affine.matrix[8] = std::abs(header.pixdim[3]);
  return affine;
}

struct Frame {
  Geometry geometry;
  double repair = 0;  // largest change of a direction cosine
  bool sheared_sform = false;
};

Frame frame_of(const fs::path& path, const Affine& affine, const std::string& form) {
  const auto finite = [](double value) { return std::isfinite(value); };
  if (!std::all_of(affine.matrix.begin(), affine.matrix.end(), finite) ||
      !std::all_of(affine.offset.begin(), affine.offset.end(), finite)) {
    fail(path, concat("header is damaged: its ", form, " is not finite"));
  }
  Frame frame;
  Matrix direction{};
  for (std::size_t column = 0; column < 3; ++column) {
    const double x = affine.matrix[column], y = affine.matrix[3 + column],
                 z = affine.matrix[6 + column];
    const double spacing = std::hypot(x, y, z);
    if (!(spacing >= 1e-4 && spacing <= 1e4)) {
      fail(path,
           concat("header is damaged: a spacing of ", format_double(spacing), " mm in its ", form));
    }
    frame.geometry.spacing[column] = spacing;
    // NIfTI's world is RAS, ITK's LPS.
    direction[column] = -x / spacing;
    direction[3 + column] = -y / spacing;
    direction[6 + column] = z / spacing;
  }
  frame.geometry.origin = {-affine.offset[0], -affine.offset[1], affine.offset[2]};
  // Axes near a plane have no nearest orthonormal frame worth the name.
  if (std::abs(determinant(direction)) < 0.5) {
    frame.repair = 1;
    return frame;
  }
  frame.geometry.direction = nearest_orthonormal(direction);
  for (std::size_t i = 0; i < 9; ++i) {
    frame.repair = std::max(frame.repair, std::abs(frame.geometry.direction[i] - direction[i]));
  }
  return frame;
}

Frame choose_frame(const fs::path& path, const NiftiHeader& header) {
  Frame frame;
  if (header.sform_code > 0) frame = frame_of(path, sform_affine(header), "sform");
  // A map to an atlas may be sheared, and the qform then is the scanner's frame. Two forms of the
  // same code claim to be equal, so that there one of them is damaged.
  frame.sheared_sform = frame.repair > kMaximumRepair && header.qform_code > 0 &&
                        header.qform_code != header.sform_code;
  if (frame.sheared_sform || (header.sform_code == 0 && header.qform_code > 0)) {
    const bool sheared_sform = frame.sheared_sform;
    frame = frame_of(path, qform_affine(path, header), "qform");
    frame.sheared_sform = sheared_sform;
  } else if (header.sform_code == 0) {
    frame = frame_of(path, spacing_affine(header), "spacing (pixdim)");
  }
  if (frame.repair > kMaximumRepair) {
    fail(path, concat("its axes are sheared (direction cosines differ from orthonormal ones by ",
                      format_fixed(frame.repair, 4), ", more than ", kMaximumRepair,
                      "); resample it to a rectangular grid"));
  }
  for (std::size_t axis = 0; axis < 3; ++axis) frame.geometry.size[axis] = header.dim[axis + 1];
  return frame;
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
    if (!fs::exists(part, error)) fail(part, "does not exist");
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

Geometry geometry_of(const NiftiFile& file) {
  const fs::path& path = file.header_path;
  Frame frame = choose_frame(path, file.header);
  if (frame.sheared_sform) {
    log_warning(concat(path.string(), ": the sform is sheared; the qform is used instead"));
  }
  const std::string note = concat(path.string(), ": direction cosines are orthonormal only to ",
                                  frame.repair, "; the nearest orthonormal ones are used");
  if (frame.repair > kRoundingRepair) {
    log_info(note);
  } else if (frame.repair > kFloatRepair) {
    log_debug(note);
  }
  frame.geometry.header = std::make_shared<const NiftiHeader>(file.header);
  return frame.geometry;
}

DirectionRepair direction_repair(const Geometry& geometry) {
  if (!geometry.header) return {};
  const Frame frame = choose_frame({}, *geometry.header);
  return {frame.repair, frame.sheared_sform};
}

bool still_describes(const NiftiHeader& header, const Geometry& geometry) {
  return geometry_difference(choose_frame({}, header).geometry, geometry, 1e-6).empty();
}

namespace {

// A gzip file unpacked at once, which is several times as fast as piece by piece. Nothing where it
// is not just what the header promises (or large): the way piece by piece finds out what is wrong.
std::optional<std::vector<char>> unpack_whole(const fs::path& path, std::int64_t expected_bytes) {
  constexpr std::int64_t kLargest = std::int64_t{1} << 26, kLargestRatio = 1032;
  std::error_code error;
  const auto packed_bytes = static_cast<std::int64_t>(fs::file_size(path, error));
  if (error || expected_bytes > kLargest || packed_bytes > kLargest ||
      expected_bytes / kLargestRatio > packed_bytes) {
    return std::nullopt;
  }
  std::ifstream input(path, std::ios::binary);
  std::vector<char> packed(static_cast<std::size_t>(packed_bytes));
  if (!input.read(packed.data(), packed_bytes)) return std::nullopt;
  constexpr std::string_view kGzipMagic = "\x1f\x8b";
  if (packed.size() < kGzipMagic.size() || !has_magic(packed, 0, kGzipMagic)) return std::nullopt;

  const std::unique_ptr<libdeflate_decompressor, decltype(&libdeflate_free_decompressor)>
      decompressor(libdeflate_alloc_decompressor(), &libdeflate_free_decompressor);
  if (!decompressor) return std::nullopt;
  std::vector<char> content(static_cast<std::size_t>(expected_bytes));
  std::size_t used = 0, made = 0;
  const auto result =
      libdeflate_gzip_decompress_ex(decompressor.get(), packed.data(), packed.size(),
                                    content.data(), content.size(), &used, &made);
  const bool is_whole =
      result == LIBDEFLATE_SUCCESS && used == packed.size() && made == content.size();
  if (!is_whole) return std::nullopt;
  return content;
}

}  // namespace

void read_content(const NiftiFile& file, const std::function<void(std::span<const char>)>& sink) {
  const std::int64_t begin = file.header.voxel_offset;
  const std::int64_t end = begin + file.header.data_bytes();
  if (const auto content = unpack_whole(file.data_path, end)) {
    sink(std::span<const char>(*content).subspan(static_cast<std::size_t>(begin)));
    return;
  }
  InputFile input(file.data_path);
  std::vector<char> buffer(std::size_t{1} << 18);
  std::int64_t position = 0;
  // Reads on to `end` and returns the next piece; an empty one at the end of the file.
  const auto next_piece = [&](std::int64_t end) {
    const auto wanted = std::min<std::int64_t>(std::ssize(buffer), end - position);
    const std::size_t count = input.read(buffer.data(), static_cast<std::size_t>(wanted));
    position += static_cast<std::int64_t>(count);
    return std::span<const char>(buffer).first(count);
  };

  while (position < begin && !next_piece(begin).empty()) {
  }
  while (position < end) {
    const auto piece = next_piece(end);
    if (piece.empty()) break;
    sink(piece);
  }
  if (position < end) {
    fail_damaged(file.data_path,
                 concat("is truncated: its header promises ", end, " bytes, it holds ", position));
  }
  const std::int64_t limit = end + kMaximumTrailing;
  while (position < limit && !next_piece(limit).empty()) {
  }
  if (position == limit) {
    fail(file.data_path, "header is damaged: the file holds far more than its header says");
  }
  if (position > end) {
    log_warning(concat(file.data_path.string(), ": ", position - end,
                       " bytes after the last voxel are ignored"));
  }
}

void restore_header(std::span<char, kNifti1HeaderBytes> bytes, const NiftiHeader& source) {
  bytes[39] = static_cast<char>(source.dim_info);
  bytes[123] = static_cast<char>(source.units);
  for (std::size_t i = 0; i < 8; ++i) {
    store<float>(bytes, 76 + 4 * i, static_cast<float>(source.pixdim[i]));
  }
  store<std::int16_t>(bytes, 252, static_cast<std::int16_t>(source.qform_code));
  store<std::int16_t>(bytes, 254, static_cast<std::int16_t>(source.sform_code));
  for (std::size_t i = 0; i < 6; ++i) {
    store<float>(bytes, 256 + 4 * i, static_cast<float>(source.qform[i]));
  }
  for (std::size_t i = 0; i < 12; ++i) {
    store<float>(bytes, 280 + 4 * i, static_cast<float>(source.sform[i]));
  }
}

void set_description(std::span<char, kNifti1HeaderBytes> bytes, const std::string& description) {
  constexpr std::size_t kOffset = 148, kLength = 80;
  const auto field = bytes.subspan<kOffset, kLength>();
  std::fill(field.begin(), field.end(), '\0');
  std::copy_n(description.begin(), std::min(description.size(), kLength - 1), field.begin());
}

namespace {

struct Rotation {
  double b = 0, c = 0, d = 0;  // of the unit quaternion (a, b, c, d), a >= 0
  double qfac = 1;             // -1: the third axis is negated first
};

// The inverse of qform_affine: Shepperd, "Quaternion from rotation matrix", 1978.
Rotation rotation_of(Matrix m) {
  Rotation rotation;
  if (determinant(m) < 0) {
    rotation.qfac = -1;
    for (std::size_t row = 0; row < 3; ++row) m[3 * row + 2] *= -1;
  }
  // Four times the squares of a, b, c and d; the division is by the largest.
  const std::array<double, 4> squares = {1 + m[0] + m[4] + m[8], 1 + m[0] - m[4] - m[8],
                                         1 - m[0] + m[4] - m[8], 1 - m[0] - m[4] + m[8]};
  const auto largest =
      static_cast<std::size_t>(std::max_element(squares.begin(), squares.end()) - squares.begin());
  const double twice = std::sqrt(squares[largest]);
  const double ab = (m[7] - m[5]) / (2 * twice), ac = (m[2] - m[6]) / (2 * twice),
               ad = (m[3] - m[1]) / (2 * twice), bc = (m[1] + m[3]) / (2 * twice),
               bd = (m[2] + m[6]) / (2 * twice), cd = (m[5] + m[7]) / (2 * twice);
  const std::array<std::array<double, 4>, 4> candidates = {{{twice / 2, ab, ac, ad},
                                                            {ab, twice / 2, bc, bd},
                                                            {ac, bc, twice / 2, cd},
                                                            {ad, bd, cd, twice / 2}}};
  const auto& [a, b, c, d] = candidates[largest];
  const double sign = a < 0 ? -1 : 1;
  rotation.b = sign * b, rotation.c = sign * c, rotation.d = sign * d;
  return rotation;
}

}  // namespace

std::array<char, kNifti1HeaderBytes> make_header(const Geometry& geometry, const NiftiStyle& style,
                                                 std::int64_t voxel_offset) {
  const auto type = static_cast<int>(style.type);
  const auto* datatype =
      std::find_if(kDatatypes.begin(), kDatatypes.end(),
                   [&](const Datatype& candidate) { return candidate.code == type; });
  // NIfTI's world is RAS, ITK's LPS.
  constexpr std::array<double, 3> ras = {-1, -1, 1};
  constexpr double kPositiveZero = 0;  // added to -0, which reads badly in a header, gives 0
  Matrix direction{};
  NiftiHeader header;
  for (std::size_t row = 0; row < 3; ++row) {
    for (std::size_t column = 0; column < 3; ++column) {
      const std::size_t i = 3 * row + column;
      direction[i] = ras[row] * geometry.direction[i];
      header.sform[4 * row + column] =
          ras[row] * (geometry.direction[i] + style.cosine_errors[i]) * geometry.spacing[column] +
          kPositiveZero;
    }
    header.sform[4 * row + 3] = header.qform[3 + row] =
        ras[row] * geometry.origin[row] + kPositiveZero;
    header.pixdim[row + 1] = geometry.spacing[row];
  }
  const Rotation rotation = rotation_of(direction);
  header.pixdim[0] = rotation.qfac;
  header.qform[0] = rotation.b, header.qform[1] = rotation.c, header.qform[2] = rotation.d;
  header.qform_code = header.sform_code = 1;  // the scanner's coordinates
  header.units = 2;                           // mm

  std::array<char, kNifti1HeaderBytes> bytes{};
  store(bytes, 0, static_cast<std::int32_t>(kNifti1HeaderBytes));
  store<std::int16_t>(bytes, 40, 3);
  for (std::size_t i = 0; i < 7; ++i) {
    store(bytes, 42 + 2 * i, static_cast<std::int16_t>(i < 3 ? geometry.size[i] : 1));
  }
  store(bytes, 70, static_cast<std::int16_t>(type));
  store(bytes, 72, static_cast<std::int16_t>(datatype->bits));
  store(bytes, 108, static_cast<float>(voxel_offset));
  store(bytes, 112, static_cast<float>(style.slope));
  store(bytes, 116, static_cast<float>(style.intercept));
  restore_header(bytes, header);
  constexpr std::string_view kSingleFile = "n+1";
  std::copy(kSingleFile.begin(), kSingleFile.end(), bytes.begin() + 344);
  return bytes;
}

}  // namespace segmamba::io
