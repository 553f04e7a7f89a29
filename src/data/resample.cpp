#include "resample.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <numbers>

#include "segmamba/core/error.h"

namespace segmamba::data {
namespace {

// What one new voxel takes from the old ones along an axis.
struct Taps {
  std::int64_t first = 0;  // taps may lie outside by up to two voxels; see Axis::inside
  std::array<float, 4> weights{};
};

// The weights of all new voxels along one axis.
struct Axis {
  std::int64_t from, to;
  int count;  // taps a voxel
  std::vector<Taps> taps;

  Axis(std::int64_t old_size, std::int64_t new_size, Interpolation interpolation)
      : from(old_size),
        to(new_size),
        count(interpolation == Interpolation::kCubic    ? 4
              : interpolation == Interpolation::kLinear ? 2
                                                        : 1),
        taps(static_cast<std::size_t>(new_size)) {
    const double scale = static_cast<double>(from) / static_cast<double>(to);
    for (std::int64_t i = 0; i < to; ++i) {
      const double position = std::clamp((static_cast<double>(i) + 0.5) * scale - 0.5, 0.0,
                                         static_cast<double>(from - 1));
      const double cell = std::floor(position);
      const auto t = static_cast<float>(position - cell);
      Taps& tap = taps[static_cast<std::size_t>(i)];
      tap.first = static_cast<std::int64_t>(cell);
      if (count == 1) {
        tap.first += t > 0.5f ? 1 : 0;
        tap.weights = {1};
      } else if (count == 2) {
        tap.weights = {1 - t, t};
      } else {
        --tap.first;
        const float s = 1 - t;
        tap.weights = {s * s * s / 6, 2.0f / 3 - t * t * (2 - t) / 2,
                       2.0f / 3 - s * s * (2 - s) / 2, t * t * t / 6};
      }
    }
  }

  // Mirrored about the outer voxels, as the B-spline's coefficients are; of two voxels more than
  // once, for the fourth tap of the last place.
  std::int64_t inside(std::int64_t i) const {
    if (from == 1) return 0;
    const std::int64_t period = 2 * (from - 1);
    const std::int64_t phase = std::abs(i) % period;
    return std::min(phase, period - phase);
  }
};

// Turns samples into the coefficients of the cubic B-spline through them, in place: `rows` rows of
// `width` values, filtered along the rows' index. One pole, sqrt(3) - 2; causal and anti-causal.
void to_coefficients(float* values, std::int64_t rows, std::int64_t width) {
  if (rows < 2) return;
  static const auto pole = static_cast<float>(std::numbers::sqrt3 - 2);
  const auto row = [&](std::int64_t i) { return values + i * width; };
  // The causal filter starts with the sum of the mirrored past; 0.268^16 is below 1e-9.
  const std::int64_t period = 2 * (rows - 1);
  std::vector<float> start(row(0), row(0) + width);
  float power = pole;
  for (std::int64_t i = 1; i <= 16; ++i, power *= pole) {
    const std::int64_t phase = i % period;
    const float* past = row(std::min(phase, period - phase));
    for (std::int64_t x = 0; x < width; ++x) start[static_cast<std::size_t>(x)] += power * past[x];
  }
  std::copy(start.begin(), start.end(), row(0));
  for (std::int64_t i = 1; i < rows; ++i) {
    const float* before = row(i - 1);
    float* now = row(i);
    for (std::int64_t x = 0; x < width; ++x) now[x] += pole * before[x];
  }
  const float end = pole / (pole * pole - 1);
  float* last = row(rows - 1);
  const float* before_last = row(rows - 2);
  for (std::int64_t x = 0; x < width; ++x) last[x] = end * (pole * before_last[x] + last[x]);
  for (std::int64_t i = rows - 2; i >= 0; --i) {
    const float* after = row(i + 1);
    float* now = row(i);
    for (std::int64_t x = 0; x < width; ++x) now[x] = pole * (after[x] - now[x]);
  }
  // The gain of both filters, 6.
  for (std::int64_t i = 0; i < rows * width; ++i) values[i] *= 6;
}

// [from, width] -> [to, width]. The source is changed where it is cubic.
void resample_rows(float* source, const Axis& axis, std::int64_t width, float* target) {
  if (axis.count == 4) to_coefficients(source, axis.from, width);
  for (std::int64_t i = 0; i < axis.to; ++i, target += width) {
    const Taps& tap = axis.taps[static_cast<std::size_t>(i)];
    std::array<const float*, 4> rows{};
    for (int k = 0; k < axis.count; ++k) {
      rows[static_cast<std::size_t>(k)] = source + axis.inside(tap.first + k) * width;
    }
    const auto& w = tap.weights;
    if (axis.count == 1) {
      std::copy_n(rows[0], width, target);
    } else if (axis.count == 2) {
      for (std::int64_t x = 0; x < width; ++x) target[x] = w[0] * rows[0][x] + w[1] * rows[1][x];
    } else {
      for (std::int64_t x = 0; x < width; ++x) {
        target[x] = w[0] * rows[0][x] + w[1] * rows[1][x] + w[2] * rows[2][x] + w[3] * rows[3][x];
      }
    }
  }
}

// Along the fastest axis: a few rows at a time are turned, so that the filters run across them.
void resample_columns(const float* source, std::int64_t rows, const Axis& axis, float* target) {
  constexpr std::int64_t kBlock = 16;
  std::vector<float> turned(static_cast<std::size_t>(kBlock * axis.from));
  std::vector<float> result(static_cast<std::size_t>(kBlock * axis.to));
  for (std::int64_t first = 0; first < rows; first += kBlock) {
    const std::int64_t count = std::min(kBlock, rows - first);
    for (std::int64_t r = 0; r < count; ++r) {
      const float* row = source + (first + r) * axis.from;
      for (std::int64_t x = 0; x < axis.from; ++x) turned[x * kBlock + r] = row[x];
    }
    resample_rows(turned.data(), axis, kBlock, result.data());
    for (std::int64_t r = 0; r < count; ++r) {
      float* row = target + (first + r) * axis.to;
      for (std::int64_t x = 0; x < axis.to; ++x) row[x] = result[x * kBlock + r];
    }
  }
}

}  // namespace

Interpolation interpolation_of(const std::string& name) {
  if (name == "nearest") return Interpolation::kNearest;
  if (name == "linear") return Interpolation::kLinear;
  if (name == "cubic") return Interpolation::kCubic;
  throw Error("there is no interpolation " + name);
}

std::vector<float> resample(std::vector<float> values, const Index3& from, const Index3& to,
                            const std::array<Interpolation, 3>& along) {
  Index3 size = from;
  for (std::size_t dimension = 0; dimension < 3; ++dimension) {
    if (size[dimension] == to[dimension]) continue;
    const Axis axis(size[dimension], to[dimension], along[dimension]);
    Index3 next = size;
    next[dimension] = to[dimension];
    std::vector<float> result(static_cast<std::size_t>(volume_of(next)));
    if (dimension == 2) {
      resample_columns(values.data(), size[0] * size[1], axis, result.data());
    } else {
      const std::int64_t outer = dimension == 0 ? 1 : size[0];
      const std::int64_t width = dimension == 0 ? size[1] * size[2] : size[2];
      for (std::int64_t i = 0; i < outer; ++i) {
        resample_rows(values.data() + i * axis.from * width, axis, width,
                      result.data() + i * axis.to * width);
      }
    }
    values = std::move(result);
    size = next;
  }
  return values;
}

std::vector<std::uint8_t> resample_labels(std::span<const std::uint8_t> labels, const Index3& from,
                                          const Index3& to,
                                          const std::array<Interpolation, 3>& along) {
  std::array<bool, 256> is_there{};
  for (const auto label : labels) is_there[label] = true;
  std::vector<std::uint8_t> best(static_cast<std::size_t>(volume_of(to)));
  std::vector<float> greatest(best.size(), 0.0f);
  for (std::size_t label = 0; label < is_there.size(); ++label) {
    if (!is_there[label]) continue;
    std::vector<float> share(labels.size());
    std::transform(labels.begin(), labels.end(), share.begin(),
                   [&](std::uint8_t value) { return value == label ? 1.0f : 0.0f; });
    share = resample(std::move(share), from, to, along);
    for (std::size_t i = 0; i < best.size(); ++i) {
      // Rounding must not decide between equal shares.
      if (share[i] > greatest[i] + 1e-5f) {
        greatest[i] = share[i];
        best[i] = static_cast<std::uint8_t>(label);
      }
    }
  }
  return best;
}

}  // namespace segmamba::data
