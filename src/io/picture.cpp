#include "segmamba/io/picture.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "segmamba/core/error.h"
#include "segmamba/core/text.h"

namespace segmamba::io {
namespace {

constexpr std::int64_t kGap = 4;  // pixels between panels
constexpr Colour kGapColour = {40, 40, 40};
constexpr std::int64_t kLargestPanel = 2048;

constexpr std::array<Colour, 4> kLabelColours = {
    Colour{0, 0, 0}, {230, 60, 50}, {70, 190, 90}, {250, 220, 60}};
constexpr Colour kOtherLabel = {120, 160, 250};
constexpr Colour kMissed = {60, 120, 250};
constexpr Colour kAdded = {250, 140, 30};
constexpr Colour kWrongLabel = {180, 80, 210};

// How the index axes lie in the world.
struct Orientation {
  std::array<std::size_t, 3> axis{};  // index axis nearest to world axis L, P, S
  std::array<bool, 3> reversed{};     // that axis runs against it
};

Orientation orientation_of(const Geometry& geometry) {
  Orientation orientation;
  std::array<bool, 3> used{};
  // The strongest component first, so that oblique axes are told apart.
  std::array<bool, 3> assigned{};
  for (int round = 0; round < 3; ++round) {
    double best = -1;
    std::size_t world = 0;
    std::size_t index = 0;
    for (std::size_t w = 0; w < 3; ++w) {
      for (std::size_t i = 0; i < 3; ++i) {
        const double component = std::abs(geometry.direction[3 * w + i]);
        if (!assigned[w] && !used[i] && component > best) {
          best = component;
          world = w;
          index = i;
        }
      }
    }
    assigned[world] = used[index] = true;
    orientation.axis[world] = index;
    orientation.reversed[world] = geometry.direction[3 * world + index] < 0;
  }
  return orientation;
}

// A slice plane in world terms: the axis it is normal to, and what its columns and rows run along.
struct Plane {
  std::size_t normal, column, row;
  bool row_from_above;  // rows run from the head down
};
constexpr std::array<Plane, 3> kPlanes = {
    Plane{2, 0, 1, false},  // axial
    Plane{1, 0, 2, true},   // coronal
    Plane{0, 1, 2, true},   // sagittal
};

std::int64_t voxel_index(const Geometry& geometry, const std::array<std::int64_t, 3>& xyz) {
  return (xyz[2] * geometry.size[1] + xyz[1]) * geometry.size[0] + xyz[0];
}

// The slice along `axis` with the most labelled voxels; the middle one where there are none.
std::int64_t largest_slice(const LabelMap* labels, const Geometry& geometry, std::size_t axis) {
  std::vector<std::int64_t> counts(static_cast<std::size_t>(geometry.size[axis]), 0);
  if (labels != nullptr) {
    std::size_t i = 0;
    std::array<std::int64_t, 3> xyz{};
    for (xyz[2] = 0; xyz[2] < geometry.size[2]; ++xyz[2]) {
      for (xyz[1] = 0; xyz[1] < geometry.size[1]; ++xyz[1]) {
        for (xyz[0] = 0; xyz[0] < geometry.size[0]; ++xyz[0], ++i) {
          if (labels->voxels[i] != 0) ++counts[static_cast<std::size_t>(xyz[axis])];
        }
      }
    }
  }
  const auto best = std::max_element(counts.begin(), counts.end());
  return best == counts.end() || *best == 0 ? geometry.size[axis] / 2 : best - counts.begin();
}

// Grey values from the image, black at zero and white at the 99.5th percentile of what is not 0.
std::function<std::uint8_t(float)> grey_window(const Image& image) {
  std::vector<float> values;
  values.reserve(image.voxels.size());
  std::copy_if(image.voxels.begin(), image.voxels.end(), std::back_inserter(values),
               [](float v) { return v != 0 && std::isfinite(v); });
  float low = 0;
  float high = 1;
  if (!values.empty()) {
    const auto percentile = [&](double share) {
      const auto nth = values.begin() +
                       static_cast<std::ptrdiff_t>(share * static_cast<double>(values.size() - 1));
      std::nth_element(values.begin(), nth, values.end());
      return *nth;
    };
    high = percentile(0.995);
    low = std::min(0.0f, percentile(0.005));
  }
  const float scale = high > low ? 255 / (high - low) : 0;
  return [low, scale](float value) {
    if (!std::isfinite(value)) return std::uint8_t{0};
    return static_cast<std::uint8_t>(std::lround(std::clamp((value - low) * scale, 0.0f, 255.0f)));
  };
}

Colour blend(Colour under, Colour over, double opacity) {
  Colour result;
  for (std::size_t i = 0; i < 3; ++i) {
    result[i] =
        static_cast<std::uint8_t>(std::lround((1 - opacity) * under[i] + opacity * over[i]));
  }
  return result;
}

Colour label_colour(std::uint8_t label) {
  return label < kLabelColours.size() ? kLabelColours[label] : kOtherLabel;
}

Colour difference_colour(std::uint8_t reference, std::uint8_t prediction) {
  if (prediction == 0) return kMissed;
  return reference == 0 ? kAdded : kWrongLabel;
}

void check_size(const Geometry& geometry, const LabelMap* labels, const char* what) {
  if (labels == nullptr || labels->geometry.size == geometry.size) return;
  const auto& size = labels->geometry.size;
  throw Error(concat("picture: the ", what, " has ", size[0], "x", size[1], "x", size[2],
                     " voxels, the image ", geometry.size[0], "x", geometry.size[1], "x",
                     geometry.size[2]));
}

}  // namespace

Picture draw_overlay(const Image& background, const LabelMap* reference, const LabelMap* prediction,
                     const OverlayOptions& options) {
  const Geometry& geometry = background.geometry;
  check_size(geometry, reference, "reference");
  check_size(geometry, prediction, "prediction");
  if (geometry.voxel_count() < 1) throw Error("picture: the image has no voxels");

  enum Column { kImage, kReference, kPrediction, kDifference };
  std::vector<Column> columns = {kImage};
  if (reference != nullptr) columns.push_back(kReference);
  if (prediction != nullptr) columns.push_back(kPrediction);
  if (reference != nullptr && prediction != nullptr) columns.push_back(kDifference);

  const Orientation orientation = orientation_of(geometry);
  const auto extent = [&](std::size_t world) {
    const std::size_t axis = orientation.axis[world];
    return static_cast<double>(geometry.size[axis]) * geometry.spacing[axis];
  };
  const double finest = *std::min_element(geometry.spacing.begin(), geometry.spacing.end());
  const double tallest = std::max(extent(1), extent(2)) / finest;
  const double zoom = std::max(1.0, std::ceil(static_cast<double>(options.panel_height) / tallest));
  const auto pixels = [&](std::size_t world) {
    return std::clamp<std::int64_t>(std::llround(extent(world) / finest * zoom), 1, kLargestPanel);
  };

  const auto column_count = static_cast<std::int64_t>(columns.size());
  const std::int64_t panel_width = std::max(pixels(0), pixels(1));
  std::int64_t height = -kGap;
  for (const Plane& plane : kPlanes) height += pixels(plane.row) + kGap;
  Picture picture(column_count * (panel_width + kGap) - kGap, height, kGapColour);

  const auto grey = grey_window(background);
  const LabelMap* shown = reference != nullptr ? reference : prediction;
  std::int64_t top = 0;
  for (const Plane& plane : kPlanes) {
    const std::int64_t rows = pixels(plane.row);
    const std::int64_t width = pixels(plane.column);
    const std::int64_t slice = largest_slice(shown, geometry, orientation.axis[plane.normal]);
    // The voxel that pixel `i` of `count` along a world axis shows.
    const auto voxel_along = [&](std::size_t world, std::int64_t i, std::int64_t count,
                                 bool backwards) {
      const std::int64_t n = geometry.size[orientation.axis[world]];
      const std::int64_t voxel = std::min(i * n / count, n - 1);
      return orientation.reversed[world] != backwards ? n - 1 - voxel : voxel;
    };
    for (std::int64_t row = 0; row < rows; ++row) {
      for (std::int64_t column = 0; column < width; ++column) {
        std::array<std::int64_t, 3> xyz{};
        xyz[orientation.axis[plane.normal]] = slice;
        xyz[orientation.axis[plane.column]] = voxel_along(plane.column, column, width, false);
        xyz[orientation.axis[plane.row]] = voxel_along(plane.row, row, rows, plane.row_from_above);
        const auto index = static_cast<std::size_t>(voxel_index(geometry, xyz));
        const std::uint8_t level = grey(background.voxels[index]);
        const Colour under = {level, level, level};
        const std::uint8_t expected = reference != nullptr ? reference->voxels[index] : 0;
        const std::uint8_t found = prediction != nullptr ? prediction->voxels[index] : 0;
        // Panels narrower than the widest stand in the middle of their column.
        std::int64_t left = (panel_width - width) / 2 + column;
        for (const Column kind : columns) {
          Colour colour = under;
          if (kind == kReference && expected != 0) {
            colour = blend(under, label_colour(expected), options.opacity);
          } else if (kind == kPrediction && found != 0) {
            colour = blend(under, label_colour(found), options.opacity);
          } else if (kind == kDifference && expected != found) {
            colour = blend(under, difference_colour(expected, found), options.opacity);
          }
          picture.at(left, top + row) = colour;
          left += panel_width + kGap;
        }
      }
    }
    top += rows + kGap;
  }
  return picture;
}

namespace {

constexpr Colour kDifferenceBackground = {16, 16, 18};

Colour agreed_colour(std::uint8_t label) {
  constexpr std::array<std::uint8_t, 4> kGreys = {0, 120, 80, 190};
  const std::uint8_t grey =
      label < kGreys.size() ? kGreys[label] : static_cast<std::uint8_t>(100 + label * 37 % 120);
  return {grey, grey, grey};
}

// Along one axis: low <= index < high.
struct Range {
  std::int64_t low = 0, high = 0;
};

// For each axis the range of slices that hold labels, and the slice to show.
struct Interest {
  std::array<Range, 3> box;
  std::array<std::int64_t, 3> slice{};
};

Interest find_interest(const LabelMap& reference, const LabelMap& prediction) {
  const auto& size = reference.geometry.size;
  std::array<std::vector<std::int64_t>, 3> labelled, differing;
  for (std::size_t axis = 0; axis < 3; ++axis) {
    labelled[axis].resize(static_cast<std::size_t>(size[axis]));
    differing[axis].resize(static_cast<std::size_t>(size[axis]));
  }
  std::size_t i = 0;
  for (std::int64_t z = 0; z < size[2]; ++z) {
    for (std::int64_t y = 0; y < size[1]; ++y) {
      for (std::int64_t x = 0; x < size[0]; ++x, ++i) {
        const std::uint8_t expected = reference.voxels[i], found = prediction.voxels[i];
        if ((expected | found) == 0) continue;
        ++labelled[0][x], ++labelled[1][y], ++labelled[2][z];
        if (expected == found) continue;
        ++differing[0][x], ++differing[1][y], ++differing[2][z];
      }
    }
  }
  Interest interest;
  for (std::size_t axis = 0; axis < 3; ++axis) {
    const auto any = [](std::int64_t count) { return count > 0; };
    const auto& counts = labelled[axis];
    const auto first = std::find_if(counts.begin(), counts.end(), any);
    const auto last = std::find_if(counts.rbegin(), counts.rend(), any);
    interest.box[axis] = {first - counts.begin(), counts.rend() - last};
    const auto& shown =
        std::any_of(differing[axis].begin(), differing[axis].end(), any) ? differing[axis] : counts;
    interest.slice[axis] = std::max_element(shown.begin(), shown.end()) - shown.begin();
  }
  return interest;
}

}  // namespace

Picture draw_difference(const LabelMap& reference, const LabelMap& prediction,
                        const DifferenceOptions& options) {
  const Geometry& geometry = reference.geometry;
  if (geometry.size != prediction.geometry.size ||
      reference.voxels.size() != prediction.voxels.size()) {
    throw Error(concat("the label maps have ", join(geometry.size, "x"), " and ",
                       join(prediction.geometry.size, "x"), " voxels"));
  }
  Interest interest = find_interest(reference, prediction);
  const bool is_empty = interest.box[0].high <= interest.box[0].low;
  std::array<double, 3> extent{};  // mm, of the box with its margin
  for (std::size_t axis = 0; axis < 3; ++axis) {
    Range& range = interest.box[axis];
    if (is_empty) {
      interest.slice[axis] = geometry.size[axis] / 2;
      range = {interest.slice[axis], interest.slice[axis] + 1};
    }
    range = {std::max<std::int64_t>(0, range.low - options.margin),
             std::min(geometry.size[axis], range.high + options.margin)};
    extent[axis] = static_cast<double>(range.high - range.low) * geometry.spacing[axis];
  }
  const double largest = *std::max_element(extent.begin(), extent.end());
  const double zoom = static_cast<double>(options.panel_size) / largest;  // pixels a mm
  const Orientation orientation = orientation_of(geometry);
  const auto pixels = [&](std::size_t world) {
    return std::clamp<std::int64_t>(std::llround(extent[orientation.axis[world]] * zoom), 1,
                                    options.panel_size);
  };
  std::int64_t width = -kGap, height = 0;
  for (const Plane& plane : kPlanes) {
    width += pixels(plane.column) + kGap;
    height = std::max(height, pixels(plane.row));
  }
  Picture picture(width, height, kDifferenceBackground);
  std::int64_t left = 0;
  for (const Plane& plane : kPlanes) {
    const std::int64_t columns = pixels(plane.column), rows = pixels(plane.row);
    const std::int64_t top = (height - rows) / 2;
    // The voxel that pixel `i` of `count` along a world axis shows.
    const auto voxel_along = [&](std::size_t world, std::int64_t i, std::int64_t count,
                                 bool backwards) {
      const Range& range = interest.box[orientation.axis[world]];
      const std::int64_t n = range.high - range.low;
      const std::int64_t voxel = std::min(i * n / count, n - 1);
      return range.low + (orientation.reversed[world] != backwards ? n - 1 - voxel : voxel);
    };
    for (std::int64_t row = 0; row < rows; ++row) {
      for (std::int64_t column = 0; column < columns; ++column) {
        std::array<std::int64_t, 3> xyz{};
        const std::size_t normal = orientation.axis[plane.normal];
        xyz[normal] = interest.slice[normal];
        xyz[orientation.axis[plane.column]] = voxel_along(plane.column, column, columns, false);
        xyz[orientation.axis[plane.row]] = voxel_along(plane.row, row, rows, plane.row_from_above);
        const auto index = static_cast<std::size_t>(voxel_index(geometry, xyz));
        const std::uint8_t expected = reference.voxels[index], found = prediction.voxels[index];
        Colour colour = kDifferenceBackground;
        if (expected != found) {
          colour = difference_colour(expected, found);
        } else if (expected != 0) {
          colour = agreed_colour(expected);
        }
        picture.at(left + column, top + row) = colour;
      }
    }
    left += columns + kGap;
  }
  return picture;
}

void write_overlay_picture(const std::filesystem::path& path, const Image& background,
                           const LabelMap* reference, const LabelMap* prediction,
                           const OverlayOptions& options) {
  write_png(path, draw_overlay(background, reference, prediction, options));
}

}  // namespace segmamba::io
