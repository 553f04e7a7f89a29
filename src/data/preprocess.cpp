#include "segmamba/data/preprocess.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "crop_layout.h"
#include "resample.h"
#include "segmamba/core/error.h"
#include "segmamba/core/memory.h"
#include "segmamba/core/text.h"

namespace segmamba::data {
namespace {

constexpr float kLargestHalf = 65504;
// Of the bounds and statistics of a config: as floats they leave room to compute with.
constexpr double kLargestBound = 1e30, kSmallestWindow = 1e-30;

// The keys that a recipe sets.
void set_recipe(PreprocessConfig& config) {
  const std::string recipe = config.recipe;
  config = PreprocessConfig{};
  config.recipe = recipe;
  if (recipe == "upstream-code") config.normalise = "crop";
  if (recipe == "nnunet") {
    config.normalise = "mask";
    config.thick_slices = 3;
  }
}

// [begin, end) along one axis.
struct Interval {
  std::int64_t begin = std::numeric_limits<std::int64_t>::max(), end = 0;
  void include(std::int64_t first, std::int64_t last) {
    begin = std::min(begin, first);
    end = std::max(end, last + 1);
  }
};

// x, y, z
using Box = std::array<Interval, 3>;

// Of all channels together. Throws Error where there is no such voxel.
Box box_of_nonzero(const RawCase& raw) {
  const auto& size = raw.geometry.size;
  Box box;
  const auto is_nonzero = [](float value) { return value != 0; };
  for (const auto& channel : raw.channels) {
    const float* row = channel.data();
    for (std::int64_t z = 0; z < size[2]; ++z) {
      for (std::int64_t y = 0; y < size[1]; ++y, row += size[0]) {
        const float* end = row + size[0];
        const float* first = std::find_if(row, end, is_nonzero);
        if (first == end) continue;
        const float* last = end - 1;
        while (*last == 0) --last;
        box[0].include(first - row, last - row);
        box[1].include(y, y);
        box[2].include(z, z);
      }
    }
  }
  if (box[0].end == 0) {
    throw Error(concat("case ", raw.name, ": every voxel of every channel is 0"));
  }
  return box;
}

// Files with such voxels are refused when they are read; cases may also be made in memory.
void check_finite(const RawCase& raw) {
  for (std::size_t c = 0; c < raw.channels.size(); ++c) {
    const auto& voxels = raw.channels[c];
    if (std::all_of(voxels.begin(), voxels.end(), [](float v) { return std::isfinite(v); })) {
      continue;
    }
    throw Error(concat("case ", raw.name, ": channel ", c, " has voxels that are NaN or infinite"));
  }
}

Box whole_box(const RawCase& raw) {
  Box box;
  for (std::size_t axis = 0; axis < 3; ++axis) box[axis] = {0, raw.geometry.size[axis]};
  return box;
}

// The kept box, in the turned grid.
void set_crop(const Box& box, PreparedCase& item) {
  for (std::size_t dimension = 0; dimension < 3; ++dimension) {
    const std::size_t axis = item.axes.axis[2 - dimension];
    const auto [begin, end] = box[axis];
    item.crop_begin[dimension] =
        item.axes.reversed[2 - dimension] ? item.geometry.size[axis] - end : begin;
    item.crop_size[dimension] = end - begin;
  }
}

// Cuts the case's crop out of the files' grid, turned.
template <class T>
std::vector<T> crop(const std::vector<T>& voxels, const PreparedCase& item) {
  const CropLayout layout = crop_layout(item);
  const auto& [depth, rows, columns] = item.crop_size;
  std::vector<T> result(static_cast<std::size_t>(volume_of(item.crop_size)));
  auto target = result.begin();
  for (std::int64_t d = 0; d < depth; ++d) {
    for (std::int64_t h = 0; h < rows; ++h) {
      const T* row = voxels.data() + layout.row(d, h);
      if (layout.step[2] == 1) {
        target = std::copy_n(row, columns, target);
      } else {
        for (std::int64_t w = 0; w < columns; ++w) *target++ = row[w * layout.step[2]];
      }
    }
  }
  return result;
}

// Where any channel is not 0, and what such voxels enclose: everything that cannot be reached from
// outside through zeros.
std::vector<std::uint8_t> filled_mask(const std::vector<std::vector<float>>& channels,
                                      const Index3& size) {
  constexpr std::uint8_t kInside = 1, kOutside = 2;
  // A border of one voxel joins all outer zeros.
  const Index3 wide = {size[0] + 2, size[1] + 2, size[2] + 2};
  std::vector<std::uint8_t> state(static_cast<std::size_t>(volume_of(wide)), 0);
  const auto at = [&](std::int64_t z, std::int64_t y, std::int64_t x) {
    return static_cast<std::size_t>((z * wide[1] + y) * wide[2] + x);
  };
  for (const auto& channel : channels) {
    const float* value = channel.data();
    for (std::int64_t z = 0; z < size[0]; ++z) {
      for (std::int64_t y = 0; y < size[1]; ++y) {
        for (std::int64_t x = 0; x < size[2]; ++x, ++value) {
          if (*value != 0) state[at(z + 1, y + 1, x + 1)] = kInside;
        }
      }
    }
  }
  std::vector<std::int64_t> open = {0};
  state[0] = kOutside;
  const std::array<std::int64_t, 3> step = {wide[1] * wide[2], wide[2], 1};
  while (!open.empty()) {
    const std::int64_t voxel = open.back();
    open.pop_back();
    const Index3 place = {voxel / step[0], voxel / wide[2] % wide[1], voxel % wide[2]};
    for (std::size_t axis = 0; axis < 3; ++axis) {
      for (const std::int64_t side : {-1, 1}) {
        if (place[axis] + side < 0 || place[axis] + side >= wide[axis]) continue;
        const std::int64_t next = voxel + side * step[axis];
        if (state[static_cast<std::size_t>(next)] != 0) continue;
        state[static_cast<std::size_t>(next)] = kOutside;
        open.push_back(next);
      }
    }
  }
  std::vector<std::uint8_t> mask;
  mask.reserve(static_cast<std::size_t>(volume_of(size)));
  for (std::int64_t z = 0; z < size[0]; ++z) {
    for (std::int64_t y = 0; y < size[1]; ++y) {
      for (std::int64_t x = 0; x < size[2]; ++x) {
        mask.push_back(state[at(z + 1, y + 1, x + 1)] != kOutside ? 1 : 0);
      }
    }
  }
  return mask;
}

// The value that `share` percent of the values lie below, linear between neighbours (as numpy).
// Reorders `values`.
float percentile(std::vector<float>& values, double share) {
  const double position = share / 100 * static_cast<double>(values.size() - 1);
  const auto nth = values.begin() + static_cast<std::ptrdiff_t>(position);
  std::nth_element(values.begin(), nth, values.end());
  // In double: the distance of two floats may be no float.
  const double low = *nth;
  if (nth + 1 == values.end()) return *nth;
  const double high = *std::min_element(nth + 1, values.end());
  return static_cast<float>(low + (position - std::floor(position)) * (high - low));
}

// Normalised voxels are kept as 16-bit floats: those beyond become the largest there are.
float within_half(double value) {
  return static_cast<float>(std::clamp<double>(value, -kLargestHalf, kLargestHalf));
}

class Normaliser {
 public:
  Normaliser(const PreprocessConfig& config, const std::vector<std::vector<float>>& channels,
             const Index3& size)
      : config_(config) {
    if (config.normalise == "mask") mask_ = filled_mask(channels, size);
  }

  // Normalises a channel in place, and returns what a further voxel of 0 would become.
  float apply(std::vector<float>& values, std::size_t channel) const {
    // A voxel of 0 is not among those that these two normalise over.
    const bool zero_stays = config_.normalise == "nonzero" || config_.normalise == "mask";
    float zero = clip(values);
    if (config_.normalise == "window") {
      const auto low = static_cast<float>(config_.clip[0]);
      const auto scale = static_cast<float>(1 / (config_.clip[1] - config_.clip[0]));
      for (float& value : values) value = (value - low) * scale;
      return (zero - low) * scale;
    }
    double mean = 0, deviation = 0;
    if (config_.normalise == "statistics") {
      mean = config_.means[channel];
      deviation = config_.deviations[channel];
    } else {
      statistics(values, mean, deviation);
    }
    // A constant channel becomes 0.
    const double scale = deviation > 1e-6 * std::abs(mean) && deviation > 0 ? 1 / deviation : 0;
    const auto normalised = [&](float value) {
      return within_half((static_cast<double>(value) - mean) * scale);
    };
    for_each_chosen(values, [&](float& value) { value = normalised(value); });
    if (config_.normalise == "mask") {
      for (std::size_t i = 0; i < values.size(); ++i) {
        if (mask_[i] == 0) values[i] = 0;
      }
    }
    return zero_stays ? 0 : normalised(zero);
  }

 private:
  // The voxels that are normalised over.
  template <class Body>
  void for_each_chosen(std::vector<float>& values, Body body) const {
    if (config_.normalise == "nonzero") {
      for (float& value : values) {
        if (value != 0) body(value);
      }
    } else if (config_.normalise == "mask") {
      for (std::size_t i = 0; i < values.size(); ++i) {
        if (mask_[i] != 0) body(values[i]);
      }
    } else {
      for (float& value : values) body(value);
    }
  }

  // Returns what a further voxel of 0 would become.
  float clip(std::vector<float>& values) const {
    float zero = 0;
    const auto clip_to = [&](float low, float high) {
      zero = std::clamp(zero, low, high);
      for_each_chosen(values, [&](float& value) { value = std::clamp(value, low, high); });
    };
    if (!config_.clip_percentiles.empty()) {
      std::vector<float> chosen;
      chosen.reserve(values.size());
      for_each_chosen(values, [&](float& value) { chosen.push_back(value); });
      if (!chosen.empty()) {
        const float low = percentile(chosen, config_.clip_percentiles[0]);
        clip_to(low, percentile(chosen, config_.clip_percentiles[1]));
      }
    }
    if (!config_.clip.empty()) {
      clip_to(static_cast<float>(config_.clip[0]), static_cast<float>(config_.clip[1]));
    }
    return zero;
  }

  void statistics(std::vector<float>& values, double& mean, double& deviation) const {
    double sum = 0, squares = 0;
    std::int64_t count = 0;
    for_each_chosen(values, [&](float& value) {
      sum += value;
      ++count;
    });
    if (count == 0) return;
    mean = sum / static_cast<double>(count);
    for_each_chosen(values, [&](float& value) {
      const double distance = value - mean;
      squares += distance * distance;
    });
    deviation = std::sqrt(squares / static_cast<double>(count));
  }

  const PreprocessConfig& config_;
  std::vector<std::uint8_t> mask_;
};

// The grid after resampling `channels` channels to config.spacing.
Index3 resampled_size(const PreprocessConfig& config, const Index3& size,
                      const std::array<double, 3>& spacing, std::int64_t channels,
                      const std::string& name) {
  if (config.spacing.empty()) return size;
  Index3 result{};
  double voxels = 1;
  for (std::size_t axis = 0; axis < 3; ++axis) {
    const double wanted = static_cast<double>(size[axis]) * spacing[axis] / config.spacing[axis];
    result[axis] = std::max<std::int64_t>(1, std::llround(std::min(wanted, 1e9)));
    voxels *= static_cast<double>(result[axis]);
  }
  // A channel as it is resampled, and all as they stay.
  const double bytes = voxels * static_cast<double>(sizeof(float) + channels * sizeof(Half));
  constexpr double kMostVoxels = 4e9;
  if (voxels > kMostVoxels || bytes > static_cast<double>(total_memory())) {
    throw Error(concat("case ", name, ": preprocess.spacing [", join(config.spacing, ", "),
                       "] makes ", join(size, "x"), " voxels of ", join(spacing, "x"), " mm into ",
                       join(result, "x"), ", which is too many",
                       voxels > kMostVoxels ? "" : " for this machine's memory"));
  }
  return result;
}

std::array<Interpolation, 3> interpolations(const PreprocessConfig& config, const std::string& name,
                                            const std::array<double, 3>& spacing) {
  std::array<Interpolation, 3> along{};
  along.fill(interpolation_of(name));
  const double finest = *std::min_element(spacing.begin(), spacing.end());
  for (std::size_t axis = 0; axis < 3; ++axis) {
    if (config.thick_slices > 0 && spacing[axis] > config.thick_slices * finest) {
      along[axis] = Interpolation::kNearest;
    }
  }
  return along;
}

// The voxels of a prepared case that are no mapped file.
struct OwnedVoxels {
  std::vector<Half> image;
  std::vector<std::uint8_t> labels;
};

void count_classes(PreparedCase& item) {
  if (item.labels.empty()) return;
  item.class_counts.assign(static_cast<std::size_t>(item.size[0] * item.classes), 0);
  const std::int64_t slice = item.size[1] * item.size[2];
  for (std::int64_t z = 0; z < item.size[0]; ++z) {
    std::array<std::int32_t, 256> counts{};
    for (const auto label : item.labels.subspan(static_cast<std::size_t>(z * slice),
                                                static_cast<std::size_t>(slice))) {
      ++counts[label];
    }
    std::copy_n(counts.begin(), item.classes, item.class_counts.begin() + z * item.classes);
  }
}

}  // namespace

void PreprocessConfig::visit(ConfigVisitor& visitor) {
  const std::string before = recipe;
  visitor.value({.name = "recipe",
                 .help = "Values of the other keys of this section, which may be given, too",
                 .choices = {"paper", "upstream-code", "nnunet"}},
                recipe);
  if (recipe != before) set_recipe(*this);
  visitor.value({.name = "orientation",
                 .help = "What the axes x, y, z are turned to run towards: LPS as BraTS, RAS, ...; "
                         "\"\": as in the files"},
                orientation);
  visitor.value({.name = "crop_to_nonzero", .help = "Crop to the voxels where a channel is not 0"},
                crop_to_nonzero);
  visitor.value({.name = "clip_percentiles",
                 .help = "Clip to these percentiles, [low, high]; []: not",
                 .min = 0,
                 .max = 100,
                 .max_items = 2},
                clip_percentiles);
  visitor.value({.name = "clip",
                 .help = "Clip to these bounds, [low, high]; []: not",
                 .min = -kLargestBound,
                 .max = kLargestBound,
                 .max_items = 2},
                clip);
  visitor.value({.name = "normalise",
                 .help = "z-score over the non-zero voxels, their filled mask or the crop; clip to "
                         "[0, 1]; or by means and deviations",
                 .choices = {"nonzero", "mask", "crop", "window", "statistics"}},
                normalise);
  visitor.value({.name = "means",
                 .help = "Of statistics: one a channel",
                 .min = -kLargestBound,
                 .max = kLargestBound},
                means);
  visitor.value({.name = "deviations",
                 .help = "Of statistics: one a channel",
                 .min = 1e-12,
                 .max = kLargestBound},
                deviations);
  visitor.value({.name = "spacing",
                 .help = "Resample to this spacing in mm, [D, H, W]; []: keep the files'",
                 .min = 0.01,
                 .max = 100,
                 .max_items = 3},
                spacing);
  visitor.value({.name = "image_interpolation",
                 .help = "cubic is the interpolating B-spline",
                 .choices = {"cubic", "linear", "nearest"}},
                image_interpolation);
  visitor.value({.name = "label_interpolation",
                 .help = "linear is the greatest of interpolated one-hot values",
                 .choices = {"linear", "nearest"}},
                label_interpolation);
  visitor.value({.name = "thick_slices",
                 .help = "Nearest neighbour along axes whose spacing is above this many times the "
                         "finest; 0: never",
                 .min = 0},
                thick_slices);
}

void check(const PreprocessConfig& config, std::size_t channels) {
  if (!config.orientation.empty()) {
    try {
      io::check_orientation(config.orientation);
    } catch (const Error& error) {
      throw Error(concat("preprocess.orientation: ", error.what()));
    }
  }
  const auto pair = [](const std::vector<double>& range, const std::string& key) {
    if (range.empty()) return;
    if (range.size() != 2 || range[0] >= range[1]) {
      throw Error(concat(key, " must be [low, high] with low below high, or []"));
    }
  };
  pair(config.clip_percentiles, "preprocess.clip_percentiles");
  pair(config.clip, "preprocess.clip");
  if (config.normalise == "window" &&
      (config.clip.empty() || config.clip[1] - config.clip[0] < kSmallestWindow)) {
    throw Error(concat("preprocess.normalise is window: preprocess.clip must be [low, high]",
                       config.clip.empty() ? "" : ", and not so close to one another"));
  }
  if (!config.spacing.empty() && config.spacing.size() != 3) {
    throw Error("preprocess.spacing must be three numbers, [D, H, W], or []");
  }
  if (config.normalise == "statistics" &&
      (config.means.size() != channels || config.deviations.size() != channels)) {
    throw Error(
        concat("preprocess.normalise is statistics: preprocess.means and .deviations must "
               "have one number a channel, ",
               channels, " each"));
  }
}

PreparedCase prepare_case(RawCase raw, const PreprocessConfig& config) {
  check(config, raw.channels.size());
  check_finite(raw);
  PreparedCase item;
  item.name = raw.name;
  item.geometry = raw.geometry;
  if (!config.orientation.empty()) {
    item.axes = io::axes_towards(raw.geometry, config.orientation);
  }
  set_crop(config.crop_to_nonzero ? box_of_nonzero(raw) : whole_box(raw), item);
  item.channels = static_cast<std::int64_t>(raw.channels.size());
  item.classes = raw.classes;
  const auto turned = io::reoriented(raw.geometry, item.axes);
  const std::array<double, 3> spacing = {turned.spacing[2], turned.spacing[1], turned.spacing[0]};
  item.size = resampled_size(config, item.crop_size, spacing, item.channels, raw.name);
  for (std::size_t axis = 0; axis < 3; ++axis) {
    item.spacing[axis] = spacing[axis] * static_cast<double>(item.crop_size[axis]) /
                         static_cast<double>(item.size[axis]);
  }

  for (auto& channel : raw.channels) channel = crop(channel, item);
  const Normaliser normaliser(config, raw.channels, item.crop_size);
  const auto along = interpolations(config, config.image_interpolation, spacing);
  auto owned = std::make_shared<OwnedVoxels>();
  const auto channels = raw.channels.size();
  owned->image.resize(channels * static_cast<std::size_t>(volume_of(item.size)));
  for (std::size_t c = 0; c < channels; ++c) {
    auto values = std::move(raw.channels[c]);
    const float outside = normaliser.apply(values, c);
    item.outside.push_back(config.crop_to_nonzero ? outside : 0);
    if (item.size != item.crop_size) {
      values = resample(std::move(values), item.crop_size, item.size, along);
    }
    Half* target = owned->image.data() + c;
    for (const float value : values) {
      *target = to_half(within_half(value));  // a spline may overshoot
      target += channels;
    }
  }
  if (!raw.labels.empty()) {
    owned->labels = crop(raw.labels, item);
    if (item.size != item.crop_size) {
      owned->labels = resample_labels(owned->labels, item.crop_size, item.size,
                                      interpolations(config, config.label_interpolation, spacing));
    }
  }
  item.image = owned->image;
  item.labels = owned->labels;
  item.storage = std::move(owned);
  count_classes(item);
  return item;
}

}  // namespace segmamba::data
