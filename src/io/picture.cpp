#include "segmamba/io/picture.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <numbers>
#include <vector>

#include "segmamba/core/error.h"
#include "segmamba/core/text.h"
#include "slice_view.h"

namespace segmamba::io {
namespace {

constexpr std::int64_t kGap = 4;  // pixels between panels
constexpr Colour kGapColour = {40, 40, 40};
constexpr std::int64_t kLargestPanel = 2048;

constexpr Colour kMissed = {60, 120, 250};
constexpr Colour kAdded = {250, 140, 30};
constexpr Colour kWrongLabel = {180, 80, 210};

// How many labelled voxels each slice of each index axis holds.
using SliceCounts = std::array<std::vector<std::int64_t>, 3>;

SliceCounts no_counts(const Geometry& geometry) {
  SliceCounts counts;
  for (std::size_t axis = 0; axis < 3; ++axis) {
    counts[axis].resize(static_cast<std::size_t>(geometry.size[axis]));
  }
  return counts;
}

// Calls visit(voxel, {x, y, z}) in the order of memory.
template <class Visit>
void for_each_voxel(const Geometry& geometry, const Visit& visit) {
  std::size_t voxel = 0;
  for (std::int64_t z = 0; z < geometry.size[2]; ++z) {
    for (std::int64_t y = 0; y < geometry.size[1]; ++y) {
      for (std::int64_t x = 0; x < geometry.size[0]; ++x, ++voxel) {
        visit(voxel, std::array{static_cast<std::size_t>(x), static_cast<std::size_t>(y),
                                static_cast<std::size_t>(z)});
      }
    }
  }
}

void count_voxel(SliceCounts& counts, const std::array<std::size_t, 3>& xyz) {
  for (std::size_t axis = 0; axis < 3; ++axis) ++counts[axis][xyz[axis]];
}

std::int64_t largest(const std::vector<std::int64_t>& counts) {
  return std::max_element(counts.begin(), counts.end()) - counts.begin();
}

bool any(const std::vector<std::int64_t>& counts) {
  return std::any_of(counts.begin(), counts.end(), [](std::int64_t count) { return count > 0; });
}

// Of each index axis the slice with the most labelled voxels; the middle one where there are none.
std::array<std::int64_t, 3> largest_slices(const LabelMap* labels, const Geometry& geometry) {
  SliceCounts counts = no_counts(geometry);
  if (labels != nullptr) {
    for_each_voxel(geometry, [&](std::size_t voxel, const std::array<std::size_t, 3>& xyz) {
      if (labels->voxels[voxel] != 0) count_voxel(counts, xyz);
    });
  }
  std::array<std::int64_t, 3> slices{};
  for (std::size_t axis = 0; axis < 3; ++axis) {
    slices[axis] = any(counts[axis]) ? largest(counts[axis]) : geometry.size[axis] / 2;
  }
  return slices;
}

// Grey values from the image, black at zero and white at the 99.5th percentile of what is not 0 (of
// large images, by every n-th voxel).
std::function<std::uint8_t(float)> grey_window(const Image& image) {
  constexpr std::size_t kSample = std::size_t{1} << 22;
  // Odd: coprime to the most common lengths of rows.
  const std::size_t step = image.voxels.size() / kSample | 1;
  std::vector<float> values;
  values.reserve(image.voxels.size() / step + 1);
  for (std::size_t i = 0; i < image.voxels.size(); i += step) {
    const float value = image.voxels[i];
    if (value != 0 && std::isfinite(value)) values.push_back(value);
  }
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

Colour difference_colour(std::uint8_t reference, std::uint8_t prediction) {
  if (prediction == 0) return kMissed;
  return reference == 0 ? kAdded : kWrongLabel;
}

void check_size(const Geometry& geometry, const LabelMap* labels, const char* what) {
  if (labels == nullptr || labels->geometry.size == geometry.size) return;
  throw Error(concat("picture: the ", what, " has ", join(labels->geometry.size, "x"),
                     " voxels, the image ", join(geometry.size, "x")));
}

// Whether a pixel has another label than one of its neighbours, or lies at the edge of the panel.
bool is_outline(const LabelMap& labels, const Panel& panel, std::int64_t column, std::int64_t row) {
  const std::uint8_t label = labels.voxels[panel.voxel(column, row)];
  constexpr std::array<std::array<std::int64_t, 2>, 4> kNeighbours = {
      {{-1, 0}, {1, 0}, {0, -1}, {0, 1}}};
  return std::any_of(kNeighbours.begin(), kNeighbours.end(), [&](const auto& step) {
    const std::int64_t c = column + step[0], r = row + step[1];
    const bool inside = c >= 0 && c < panel.width() && r >= 0 && r < panel.height();
    return !inside || labels.voxels[panel.voxel(c, r)] != label;
  });
}

Colour with_label(Colour under, const LabelMap& labels, const Panel& panel, std::int64_t column,
                  std::int64_t row, const OverlayOptions& options) {
  const std::uint8_t label = labels.voxels[panel.voxel(column, row)];
  if (label == 0) return under;
  if (options.style == LabelStyle::kFilled) {
    return blend(under, label_colour(label), options.opacity);
  }
  return is_outline(labels, panel, column, row) ? label_colour(label) : under;
}

Colour with_difference(Colour under, const LabelMap& reference, const LabelMap& prediction,
                       std::size_t voxel, const OverlayOptions& options) {
  const std::uint8_t expected = reference.voxels[voxel], found = prediction.voxels[voxel];
  if (expected == found) return under;
  return blend(under, difference_colour(expected, found), options.opacity);
}

}  // namespace

Colour label_colour(std::uint8_t label) {
  constexpr std::array<Colour, 4> kFirst = {
      Colour{0, 0, 0}, {230, 60, 50}, {70, 190, 90}, {250, 220, 60}};
  if (label < kFirst.size()) return kFirst[label];
  // Hues a golden section of the circle apart never come close to one another soon.
  constexpr double kStart = 0.947, kDarkest = 90, kRange = 165;
  const double hue = kStart + (label - 4) / std::numbers::phi;
  Colour colour;
  for (std::size_t i = 0; i < 3; ++i) {
    // A wave for each of red, green and blue, a third of the circle apart.
    const double place = hue + static_cast<double>(i) / 3;
    const double wave = std::abs(6 * (place - std::floor(place)) - 3) - 1;
    colour[i] =
        static_cast<std::uint8_t>(std::lround(kDarkest + kRange * std::clamp(wave, 0.0, 1.0)));
  }
  return colour;
}

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

  const AxisMap axes = world_axes(geometry);
  const auto extent = [&](std::size_t world) {
    const std::size_t axis = axes.axis[world];
    return static_cast<double>(geometry.size[axis]) * geometry.spacing[axis];
  };
  const double finest = *std::min_element(geometry.spacing.begin(), geometry.spacing.end());
  const double tallest = std::max(extent(1), extent(2)) / finest;
  const double zoom = std::max(1.0, std::ceil(static_cast<double>(options.panel_height) / tallest));
  const auto pixels = [&](std::size_t world) {
    return std::clamp<std::int64_t>(std::llround(extent(world) / finest * zoom), 1, kLargestPanel);
  };

  const std::int64_t panel_width = std::max(pixels(0), pixels(1));
  std::int64_t height = -kGap;
  for (const Plane& plane : kPlanes) height += pixels(plane.row) + kGap;
  Picture picture(std::ssize(columns) * (panel_width + kGap) - kGap, height, kGapColour);

  const IndexBox whole = {Range{0, geometry.size[0]}, {0, geometry.size[1]}, {0, geometry.size[2]}};
  const auto grey = grey_window(background);
  const auto slices = largest_slices(reference != nullptr ? reference : prediction, geometry);
  std::int64_t top = 0;
  for (const Plane& plane : kPlanes) {
    const Panel panel(geometry, plane, whole, slices, pixels(plane.column), pixels(plane.row));
    // Panels narrower than the widest stand in the middle of their column.
    const std::int64_t indent = (panel_width - panel.width()) / 2;
    for (std::int64_t row = 0; row < panel.height(); ++row) {
      for (std::int64_t column = 0; column < panel.width(); ++column) {
        const std::size_t voxel = panel.voxel(column, row);
        const std::uint8_t level = grey(background.voxels[voxel]);
        std::int64_t left = indent + column;
        for (const Column kind : columns) {
          Colour colour = {level, level, level};
          if (kind == kReference) {
            colour = with_label(colour, *reference, panel, column, row, options);
          } else if (kind == kPrediction) {
            colour = with_label(colour, *prediction, panel, column, row, options);
          } else if (kind == kDifference) {
            colour = with_difference(colour, *reference, *prediction, voxel, options);
          }
          picture.at(left, top + row) = colour;
          left += panel_width + kGap;
        }
      }
    }
    top += panel.height() + kGap;
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

// The box that holds labels, and of each index axis the slice to show.
struct Interest {
  IndexBox box;
  std::array<std::int64_t, 3> slices{};
};

Interest find_interest(const LabelMap& reference, const LabelMap& prediction, std::int64_t margin) {
  const Geometry& geometry = reference.geometry;
  SliceCounts labelled = no_counts(geometry), differing = no_counts(geometry);
  for_each_voxel(geometry, [&](std::size_t voxel, const std::array<std::size_t, 3>& xyz) {
    const std::uint8_t expected = reference.voxels[voxel], found = prediction.voxels[voxel];
    if ((expected | found) == 0) return;
    count_voxel(labelled, xyz);
    if (expected != found) count_voxel(differing, xyz);
  });
  Interest interest;
  for (std::size_t axis = 0; axis < 3; ++axis) {
    const auto& counts = labelled[axis];
    Range range;
    if (any(counts)) {
      const auto is_set = [](std::int64_t count) { return count > 0; };
      interest.slices[axis] = largest(any(differing[axis]) ? differing[axis] : counts);
      range = {std::find_if(counts.begin(), counts.end(), is_set) - counts.begin(),
               counts.rend() - std::find_if(counts.rbegin(), counts.rend(), is_set)};
    } else {
      interest.slices[axis] = geometry.size[axis] / 2;
      range = {interest.slices[axis], interest.slices[axis] + 1};
    }
    interest.box[axis] = {std::max<std::int64_t>(0, range.low - margin),
                          std::min(geometry.size[axis], range.high + margin)};
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
  const Interest interest = find_interest(reference, prediction, options.margin);
  std::array<double, 3> extent{};  // mm, of the box
  for (std::size_t axis = 0; axis < 3; ++axis) {
    extent[axis] = static_cast<double>(interest.box[axis].length()) * geometry.spacing[axis];
  }
  const double longest = *std::max_element(extent.begin(), extent.end());
  const double zoom = static_cast<double>(options.panel_size) / longest;  // pixels a mm
  const AxisMap axes = world_axes(geometry);
  const auto pixels = [&](std::size_t world) {
    return std::clamp<std::int64_t>(std::llround(extent[axes.axis[world]] * zoom), 1,
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
    const Panel panel(geometry, plane, interest.box, interest.slices, pixels(plane.column),
                      pixels(plane.row));
    const std::int64_t top = (height - panel.height()) / 2;
    for (std::int64_t row = 0; row < panel.height(); ++row) {
      for (std::int64_t column = 0; column < panel.width(); ++column) {
        const std::size_t voxel = panel.voxel(column, row);
        const std::uint8_t expected = reference.voxels[voxel], found = prediction.voxels[voxel];
        Colour colour = kDifferenceBackground;
        if (expected != found) {
          colour = difference_colour(expected, found);
        } else if (expected != 0) {
          colour = agreed_colour(expected);
        }
        picture.at(left + column, top + row) = colour;
      }
    }
    left += panel.width() + kGap;
  }
  return picture;
}

void write_overlay_picture(const std::filesystem::path& path, const Image& background,
                           const LabelMap* reference, const LabelMap* prediction,
                           const OverlayOptions& options) {
  write_png(path, draw_overlay(background, reference, prediction, options));
}

}  // namespace segmamba::io
