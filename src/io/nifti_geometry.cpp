#include "nifti_geometry.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>

#include "segmamba/core/error.h"
#include "segmamba/core/log.h"
#include "segmamba/core/text.h"

namespace segmamba::io {
namespace {

namespace fs = std::filesystem;

// Largest entry by which direction cosines may differ from the nearest orthonormal ones. Files of
// registration tools are off by 1e-6 to 1e-3; 0.01 is about half a degree of shear.
constexpr double kMaximumRepair = 0.01;
// What a few decimals in a text header explain; for the debug log. Below the second, float itself.
constexpr double kRoundingRepair = 1e-4, kFloatRepair = 1e-6;

[[noreturn]] void fail(const fs::path& path, const std::string& what) {
  throw Error(concat(path.string(), ": ", what));
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

void set_size(NiftiHeader& header, const std::array<std::int64_t, 3>& size) {
  header.dim = {3, size[0], size[1], size[2], 1, 1, 1, 1};
  if (*std::max_element(size.begin(), size.end()) > INT16_MAX) header.version = 2;
}

}  // namespace

Geometry geometry_of(const NiftiFile& file) {
  Geometry geometry = choose_frame(file.header_path, file.header).geometry;
  geometry.header = std::make_shared<const NiftiHeader>(file.header);
  return geometry;
}

void log_repair(const fs::path& path, const DirectionRepair& repair) {
  if (repair.sheared_sform) {
    log_warning(concat(path.string(), ": the sform is sheared; the qform is used instead"));
  }
  const std::string note = concat(path.string(), ": direction cosines are orthonormal only to ",
                                  repair.largest_change, "; the nearest orthonormal ones are used");
  if (repair.largest_change > kRoundingRepair) {
    log_info(note);
  } else if (repair.largest_change > kFloatRepair) {
    log_debug(note);
  }
}

DirectionRepair direction_repair(const Geometry& geometry) {
  if (!geometry.header) return {};
  const Frame frame = choose_frame({}, *geometry.header);
  return {frame.repair, frame.sheared_sform};
}

NiftiHeader header_for(const Geometry& geometry) {
  constexpr double kTolerance = 1e-6;
  if (!geometry.header ||
      !geometry_difference(choose_frame({}, *geometry.header).geometry, geometry, kTolerance)
           .empty()) {
    return made_header(geometry);
  }
  NiftiHeader header = *geometry.header;
  set_size(header, geometry.size);
  return header;
}

NiftiHeader made_header(const Geometry& geometry, const std::array<double, 9>& sform_errors) {
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
          ras[row] * (geometry.direction[i] + sform_errors[i]) * geometry.spacing[column] +
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
  set_size(header, geometry.size);
  return header;
}

}  // namespace segmamba::io
