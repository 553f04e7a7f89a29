#include "dicom_grid.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <string>

#include "segmamba/core/error.h"
#include "segmamba/core/text.h"

namespace segmamba::io {
namespace {

namespace fs = std::filesystem;
using Vector = std::array<double, 3>;

// By how much cosines and, as a fraction, pixel spacings may differ from slice to slice, and
// cosines from orthonormal ones: files round them to four decimals or more.
constexpr double kRounding = 1e-3;
// How far a slice may lie from its place in the grid, as a fraction of the distance of slices or
// the size of a pixel.
constexpr double kMaximumShift = 0.1;
// How much a distance of two neighbours may differ from the usual one, as a fraction of it.
constexpr double kMaximumGap = 0.2;

[[noreturn]] void fail(const fs::path& path, const std::string& what) {
  throw Error(concat(path.string(), ": ", what));
}

double dot(const Vector& a, const Vector& b) { return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]; }
Vector cross(const Vector& a, const Vector& b) {
  return {a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]};
}
Vector sum(const Vector& a, double factor, const Vector& b) {
  return {a[0] + factor * b[0], a[1] + factor * b[1], a[2] + factor * b[2]};
}
double length(const Vector& a) { return std::sqrt(dot(a, a)); }
Vector unit(const Vector& a) { return sum({}, 1 / length(a), a); }

// Orthonormal directions of index axes x, y and z.
struct Axes {
  Vector row, column, normal;
};

Axes axes_of(const DicomFile& file) {
  const auto& cosines = *file.frames.front().orientation;
  const Vector row = {cosines[0], cosines[1], cosines[2]};
  const Vector column = {cosines[3], cosines[4], cosines[5]};
  // Written so that NaN fails.
  if (!(std::abs(length(row) - 1) < kRounding && std::abs(length(column) - 1) < kRounding &&
        std::abs(dot(row, column)) < kRounding)) {
    fail(file.path, concat("is damaged: its directions of rows and columns are not orthonormal (",
                           join(cosines, ", "), ")"));
  }
  Axes axes;
  axes.row = unit(row);
  axes.normal = unit(cross(row, column));
  axes.column = cross(axes.normal, axes.row);
  return axes;
}

std::string name_of(const DicomFile& file, std::size_t frame) {
  const std::string name = file.path.filename().string();
  return file.is_multi_frame ? concat(name, " frame ", frame + 1) : name;
}
std::string name_of(const std::vector<DicomFile>& files, const GridSlice& slice) {
  return name_of(files[slice.file], slice.frame);
}

void refuse_without_place(const DicomFile& file, std::size_t i) {
  const DicomFrame& frame = file.frames[i];
  const char* missing = !frame.position      ? "position (Image Position (Patient))"
                        : !frame.orientation ? "direction (Image Orientation (Patient))"
                        : !frame.spacing     ? "pixel spacing"
                                             : nullptr;
  if (missing != nullptr) {
    fail(file.path, concat("has no valid ", missing, " of its slice",
                           file.is_multi_frame ? concat(" ", i + 1) : "",
                           ", so its place in the patient is not known"));
  }
  if (!((*frame.spacing)[0] > 0 && (*frame.spacing)[1] > 0)) {
    fail(file.path, concat("is damaged: its pixel spacing is ", join(*frame.spacing, "x")));
  }
}

template <class Range>
bool differ(const Range& a, const Range& b, double tolerance) {
  return !std::equal(a.begin(), a.end(), b.begin(),
                     [&](double x, double y) { return std::abs(x - y) <= tolerance; });
}

void refuse_unlike(const DicomFile& first, const DicomFile& file, std::size_t i) {
  const DicomFrame& expected = first.frames.front();
  const DicomFrame& frame = file.frames[i];
  const auto check = [&](bool is_unlike, const char* what, const auto& got, const auto& usual) {
    if (!is_unlike) return;
    fail(file.path.parent_path(),
         concat("slices differ in ", what, ": ", join(got, ", "), " in ", name_of(file, i), ", ",
                join(usual, ", "), " in ", name_of(first, 0),
                "; take away what does not belong (a localizer?)"));
  };
  const std::array size = {file.columns, file.rows}, first_size = {first.columns, first.rows};
  check(size != first_size, "size", size, first_size);
  check(differ(*frame.orientation, *expected.orientation, kRounding), "direction",
        *frame.orientation, *expected.orientation);
  check(differ(*frame.spacing, *expected.spacing, kRounding * (*expected.spacing)[0]),
        "pixel spacing", *frame.spacing, *expected.spacing);
}

const Vector& position_of(const std::vector<DicomFile>& files, const GridSlice& slice) {
  return *files[slice.file].frames[slice.frame].position;
}

// The usual distance of neighbours: the median, of two the smaller.
double usual_gap(const std::vector<GridSlice>& slices) {
  std::vector<double> gaps;
  for (std::size_t z = 1; z < slices.size(); ++z) {
    gaps.push_back(slices[z].along - slices[z - 1].along);
  }
  const auto middle = gaps.begin() + (std::ssize(gaps) - 1) / 2;
  std::nth_element(gaps.begin(), middle, gaps.end());
  return *middle;
}

void refuse_uneven(const fs::path& folder, const std::vector<DicomFile>& files,
                   const std::vector<GridSlice>& slices) {
  constexpr double kSamePlace = 1e-3;  // mm
  const double usual = usual_gap(slices);
  for (std::size_t z = 1; z < slices.size(); ++z) {
    const double gap = slices[z].along - slices[z - 1].along;
    const std::string pair =
        concat(name_of(files, slices[z - 1]), " and ", name_of(files, slices[z]));
    if (gap < kSamePlace) {
      fail(folder, concat(pair,
                          " lie at the same place: the series holds a slice twice or "
                          "several volumes (echoes, times); keep one"));
    }
    if (std::abs(gap - usual) <= kMaximumGap * usual) continue;
    const double missing = std::round(gap / usual) - 1;
    fail(folder, concat("slices are not evenly spaced: ", pair, " are ", format_fixed(gap, 3),
                        " mm apart, others ", format_fixed(usual, 3), " mm",
                        missing >= 1 ? concat("; ", missing, " seem to be missing") : ""));
  }
}

// Every slice against its place on the line from the first one along the normal.
void refuse_shifted(const fs::path& folder, const std::vector<DicomFile>& files,
                    const std::vector<GridSlice>& slices, const Axes& axes, double spacing) {
  const auto& pixel = *files[slices.front().file].frames[slices.front().frame].spacing;
  const Vector& first = position_of(files, slices.front());
  const double extent = slices.back().along - slices.front().along;
  const Vector whole = sum(position_of(files, slices.back()), -1, first);
  const double sideways = std::hypot(dot(whole, axes.row), dot(whole, axes.column));
  const double allowed = kMaximumShift * std::min(pixel[0], pixel[1]) + kRounding * extent;
  if (sideways > allowed) {
    const double angle = std::atan2(sideways, extent) * 180 / std::numbers::pi;
    fail(folder, concat("slices are sheared by ", format_fixed(angle, 2),
                        " degrees (tilted gantry?); resample them to a straight grid first"));
  }
  for (std::size_t z = 0; z < slices.size(); ++z) {
    const Vector shift = sum(position_of(files, slices[z]), -1, first);
    const double off = slices[z].along - slices.front().along - static_cast<double>(z) * spacing;
    if (std::abs(off) > kMaximumShift * spacing ||
        std::hypot(dot(shift, axes.row), dot(shift, axes.column)) > allowed) {
      fail(folder, concat("slices are not on a regular grid: ", name_of(files, slices[z]), " at (",
                          join(position_of(files, slices[z]), ", "), ") is off its place"));
    }
  }
}

}  // namespace

std::vector<GridSlice> sort_slices(const std::vector<DicomFile>& files) {
  for (const auto& file : files) {
    for (std::size_t i = 0; i < file.frames.size(); ++i) {
      refuse_without_place(file, i);
      refuse_unlike(files.front(), file, i);
    }
  }
  const Vector normal = axes_of(files.front()).normal;
  std::vector<GridSlice> slices;
  for (std::size_t i = 0; i < files.size(); ++i) {
    for (std::size_t j = 0; j < files[i].frames.size(); ++j) {
      slices.push_back({i, j, dot(*files[i].frames[j].position, normal)});
    }
  }
  std::stable_sort(slices.begin(), slices.end(),
                   [](const GridSlice& a, const GridSlice& b) { return a.along < b.along; });
  return slices;
}

Geometry grid_of(const fs::path& folder, const std::vector<DicomFile>& files,
                 const std::vector<GridSlice>& slices) {
  const DicomFile& first = files.front();
  const DicomFrame& frame = first.frames.front();
  const Axes axes = axes_of(first);
  Geometry grid;
  grid.size = {first.columns, first.rows, std::ssize(slices)};
  grid.spacing = {(*frame.spacing)[1], (*frame.spacing)[0], frame.thickness};
  if (slices.size() > 1) {
    refuse_uneven(folder, files, slices);
    grid.spacing[2] =
        (slices.back().along - slices.front().along) / static_cast<double>(slices.size() - 1);
    refuse_shifted(folder, files, slices, axes, grid.spacing[2]);
  } else if (grid.spacing[2] == 0) {
    fail(first.path, "is the only slice and has no thickness");
  }
  grid.origin = position_of(files, slices.front());
  for (std::size_t row = 0; row < 3; ++row) {
    grid.direction[3 * row] = axes.row[row];
    grid.direction[3 * row + 1] = axes.column[row];
    grid.direction[3 * row + 2] = axes.normal[row];
  }
  return grid;
}

}  // namespace segmamba::io
