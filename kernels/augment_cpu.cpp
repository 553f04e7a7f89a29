#include "augment_cpu.h"

#include <algorithm>
#include <cmath>

#include "augment_math.cuh"
#include "cpu_lanes.h"

namespace segmamba::kernels {
namespace {

// A call's data, and the memory it works in.
struct Job {
  const CaseView& from;
  const PatchTransform& transform;
  const AugmentLanes& lanes;
  float* image;
  std::uint8_t* labels;
  AugmentScratch& scratch;

  const SpatialMap& map() const { return transform.map; }
  std::int64_t plane() const { return std::int64_t{map().size[1]} * map().size[2]; }
  std::int64_t volume() const { return map().size[0] * plane(); }
  float* channel(std::int32_t c) const { return image + c * volume(); }
};

std::int64_t padded(std::int64_t count) { return (count + kRowSpare - 1) / 16 * 16 + 16; }

template <class T>
T* memory(AlignedVector<T>& vector, std::int64_t count) {
  if (static_cast<std::int64_t>(vector.size()) < count) {
    vector.resize(static_cast<std::size_t>(count));
  }
  return vector.data();
}

ValueStatistics statistics_of(const ValueSums& sums) {
  const auto count = static_cast<double>(std::max<std::int64_t>(sums.count, 1));
  const double mean = sums.sum / count;
  return {sums.min, sums.max, mean, std::sqrt(std::max(sums.squares / count - mean * mean, 0.0))};
}

bool changes(const PointTransform& point) {
  const PointTransform none;
  return point.scale != none.scale || point.shift != none.shift || point.low != none.low ||
         point.high != none.high;
}

// Whether values of the channel are needed before gamma or contrast can start.
bool needs_statistics(const ChannelTransform& channel) {
  return channel.contrast != 1 ||
         (channel.low[0] == 0 && (channel.gamma != 1 || channel.gamma_inverted != 1));
}

bool is_finished_by_sampling(const ChannelTransform& channel) {
  return channel.blur <= 0 && channel.contrast == 1 && channel.low[0] == 0 && channel.gamma == 1 &&
         channel.gamma_inverted == 1;
}

// ---- The one resampling -------------------------------------------------------------------------

// The case's voxels that rows of a copy show.
struct CopiedAxis {
  std::int32_t first, step, begin,
      end;  // patch voxel i in [begin, end) shows case voxel first + step * i
};
CopiedAxis copied_axis(const SpatialMap& map, int a, std::int32_t case_size) {
  CopiedAxis axis{map.origin[a] >> kPositionBits, map.step[a][a] >> kPositionBits, 0, map.size[a]};
  while (axis.begin < axis.end) {
    const std::int32_t at = axis.first + axis.step * axis.begin;
    if (at >= 0 && at < case_size) break;
    ++axis.begin;
  }
  while (axis.end > axis.begin) {
    const std::int32_t at = axis.first + axis.step * (axis.end - 1);
    if (at >= 0 && at < case_size) break;
    --axis.end;
  }
  return axis;
}

class Copier {
 public:
  explicit Copier(const Job& job) : job_(job) {
    for (int a = 0; a < 3; ++a) axis_[a] = copied_axis(job.map(), a, job.from.size[a]);
  }

  void row(std::int32_t z, std::int32_t y, float* const* out, std::uint8_t* labels) {
    const std::int32_t width = job_.map().size[2], channels = job_.from.channels;
    const CopiedAxis& x = axis_[2];
    const bool exists = z >= axis_[0].begin && z < axis_[0].end && y >= axis_[1].begin &&
                        y < axis_[1].end && x.begin < x.end;
    const std::int32_t begin = exists ? x.begin : width, end = exists ? x.end : width;
    for (std::int32_t c = 0; c < channels; ++c) {
      const float outside = outside_value(job_.from, c);
      std::fill(out[c], out[c] + begin, outside);
      std::fill(out[c] + end, out[c] + width, outside);
    }
    std::fill(labels, labels + begin, std::uint8_t{0});
    std::fill(labels + end, labels + width, std::uint8_t{0});
    if (!exists) return;
    const bool reversed = x.step < 0;
    const std::int64_t row = voxel_index(job_.from, axis_[0].first + axis_[0].step * z,
                                         axis_[1].first + axis_[1].step * y,
                                         x.first + x.step * (reversed ? end - 1 : begin));
    rows_.assign(out, out + channels);
    for (float*& at : rows_) at += begin;
    job_.lanes.copy_row(job_.from, job_.from.image + row * channels, reversed, end - begin,
                        rows_.data());
    if (job_.from.labels == nullptr) {
      std::fill(labels + begin, labels + end, std::uint8_t{0});
    } else if (reversed) {
      std::reverse_copy(job_.from.labels + row, job_.from.labels + row + (end - begin),
                        labels + begin);
    } else {
      std::copy(job_.from.labels + row, job_.from.labels + row + (end - begin), labels + begin);
    }
  }

 private:
  const Job& job_;
  CopiedAxis axis_[3];
  std::vector<float*> rows_;
};

class Resampler {
 public:
  explicit Resampler(const Job& job) : job_(job) {
    const SpatialMap& map = job.map();
    const std::int64_t width = padded(map.size[2]);
    const std::int32_t* const points = map.points;
    const bool elastic = points[0] != 0;
    std::int32_t* integers = memory(job.scratch.integers, 4 * width + map.size[0] + map.size[1]);
    for (int a = 0; a < 3; ++a) positions_.at[a] = integers + a * width;
    cells_[2] = integers + 3 * width;
    cells_[0] = integers + 4 * width;
    cells_[1] = cells_[0] + map.size[0];
    const std::int64_t columns = 3 * std::int64_t{points[2]};
    // Rows are read in whole vectors, the last one beyond its end.
    const std::int64_t stored = static_cast<std::int64_t>(job.transform.displacements.size());
    float* floats = memory(
        job.scratch.floats,
        elastic ? 4 * (width + map.size[0] + map.size[1]) + stored + 2 * (columns + kRowSpare) : 0);
    moved_ = {nullptr, points[2], cells_[2], floats, width};
    if (!elastic) return;
    std::fill(floats, floats + 4 * width, 0.0F);
    for (std::int32_t x = 0; x < map.size[2]; ++x) {
      float weight[4];
      cells_[2][x] = control_cell(map, 2, x, weight);
      for (int k = 0; k < 4; ++k) floats[k * width + x] = weight[k];
    }
    weights_[0] = floats + 4 * width;
    weights_[1] = weights_[0] + 4 * map.size[0];
    for (int b = 0; b < 2; ++b) {
      for (std::int32_t i = 0; i < map.size[b]; ++i) {
        cells_[b][i] = control_cell(map, b, i, weights_[b] + 4 * i);
      }
    }
    columns_ = weights_[1] + 4 * map.size[1];
    displacements_ = columns_ + columns + kRowSpare;
    std::copy(job.transform.displacements.begin(), job.transform.displacements.end(),
              displacements_);
    moved_.points = columns_;
  }

  void row(std::int32_t z, std::int32_t y, float* const* out, std::uint8_t* labels) {
    const SpatialMap& map = job_.map();
    if (moved_.points != nullptr) {
      const float* rows[16];
      float weights[16];
      const std::int64_t columns = 3 * std::int64_t{map.points[2]};
      for (int j = 0; j < 16; ++j) {
        const std::int64_t row =
            std::int64_t{cells_[0][z] + j / 4} * map.points[1] + cells_[1][y] + j % 4;
        rows[j] = displacements_ + row * columns;
        weights[j] = weights_[0][4 * z + j / 4] * weights_[1][4 * y + j % 4];
      }
      job_.lanes.combine(rows, weights, 16, (columns + kRowSpare - 1) / kRowSpare * kRowSpare,
                         columns_);
    }
    std::int32_t start[3], step[3];
    for (int a = 0; a < 3; ++a) {
      start[a] = map.origin[a] + map.step[a][0] * z + map.step[a][1] * y;
      step[a] = map.step[a][2];
    }
    const std::int32_t width = map.size[2];
    job_.lanes.positions(start, step, moved_, width, positions_);
    job_.lanes.sample_row(job_.from, positions_, job_.transform.cubic_image, width, out);
    if (job_.from.labels == nullptr) {
      std::fill(labels, labels + width, std::uint8_t{0});
    } else {
      job_.lanes.label_row(job_.from, positions_, job_.transform.linear_labels, width, labels);
    }
  }

 private:
  const Job& job_;
  RowPositions positions_{};
  RowDisplacement moved_{};
  std::int32_t* cells_[3] = {};
  float* weights_[2] = {};
  float* columns_ = nullptr;
  float* displacements_ = nullptr;
};

// Slice by slice, so that what follows on a slice finds it in the cache: noise, and, unless the
// channel is to be blurred first, brightness and sums. A channel that is finished by then goes from
// a slice in the cache straight to memory.
template <class Source>
void sample(const Job& job, Source source, std::vector<ValueSums>& sums) {
  const SpatialMap& map = job.map();
  const auto channels = static_cast<std::size_t>(job.from.channels);
  float* const slices = memory(job.scratch.slice, job.from.channels * padded(job.plane()));
  job.scratch.rows.resize(channels);
  std::vector<float*> slice(channels);
  for (std::int32_t z = 0; z < map.size[0]; ++z) {
    const std::int64_t first = z * job.plane();
    for (std::size_t c = 0; c < channels; ++c) {
      slice[c] = is_finished_by_sampling(job.transform.channels[c])
                     ? slices + static_cast<std::int64_t>(c) * padded(job.plane())
                     : job.channel(static_cast<std::int32_t>(c)) + first;
    }
    for (std::int32_t y = 0; y < map.size[1]; ++y) {
      const std::int64_t row = std::int64_t{y} * map.size[2];
      for (std::size_t c = 0; c < channels; ++c) job.scratch.rows[c] = slice[c] + row;
      source.row(z, y, job.scratch.rows.data(), job.labels + first + row);
    }
    for (std::size_t c = 0; c < channels; ++c) {
      const ChannelTransform& channel = job.transform.channels[c];
      const auto number = static_cast<std::int32_t>(c);
      if (channel.noise != 0) {
        job.lanes.add_noise(slice[c], first, job.plane(), channel.noise, job.transform.noise_seed,
                            number);
      }
      if (channel.blur > 0) continue;
      const PointTransform brightness{channel.factor, channel.shift};
      if (is_finished_by_sampling(channel)) {
        job.lanes.point_to(brightness, slice[c], job.channel(number) + first, job.plane());
      } else if (changes(brightness)) {
        job.lanes.point(brightness, slice[c], job.plane());
      }
      if (needs_statistics(channel)) job.lanes.statistics(slice[c], job.plane(), sums[c]);
    }
  }
  job.lanes.finish_stores();
}

// ---- Neighbours ---------------------------------------------------------------------------------

// In place: slices blurred along y and x wait in a ring until all that a slice needs along z are
// there, when the slice itself has long been read.
void blur(const Job& job, const ChannelTransform& channel, float* values, ValueSums& sums) {
  const std::int32_t depth = job.map().size[0], height = job.map().size[1],
                     width = job.map().size[2];
  const std::vector<float> weights = gaussian_weights(channel.blur);
  const auto taps = static_cast<std::int32_t>(weights.size());
  const std::int32_t radius = taps / 2;
  const std::int64_t plane = job.plane(), row_size = padded(width + 2 * radius);
  float* const row = memory(job.scratch.floats, row_size + (taps + 1) * padded(plane));
  float* const along_x = row + row_size;
  float* const ring = along_x + padded(plane);
  std::vector<const float*> rows(static_cast<std::size_t>(taps));
  const auto slot = [&](std::int32_t z) { return ring + z % taps * padded(plane); };

  std::int32_t ready = 0;  // slices of the ring
  for (std::int32_t z = 0; z < depth; ++z) {
    for (; ready < depth && ready <= z + radius; ++ready) {
      for (std::int32_t y = 0; y < height; ++y) {
        const float* const from = values + ready * plane + std::int64_t{y} * width;
        std::copy(from, from + width, row + radius);
        for (std::int32_t k = 1; k <= radius; ++k) {
          row[radius - k] = from[mirrored_index(-k, width)];
          row[radius + width - 1 + k] = from[mirrored_index(width - 1 + k, width)];
        }
        for (std::int32_t k = 0; k < taps; ++k) rows[static_cast<std::size_t>(k)] = row + k;
        job.lanes.combine(rows.data(), weights.data(), taps, width,
                          along_x + std::int64_t{y} * width);
      }
      for (std::int32_t y = 0; y < height; ++y) {
        for (std::int32_t k = 0; k < taps; ++k) {
          rows[static_cast<std::size_t>(k)] =
              along_x + std::int64_t{mirrored_index(y + k - radius, height)} * width;
        }
        job.lanes.combine(rows.data(), weights.data(), taps, width,
                          slot(ready) + std::int64_t{y} * width);
      }
    }
    for (std::int32_t k = 0; k < taps; ++k) {
      rows[static_cast<std::size_t>(k)] = slot(mirrored_index(z + k - radius, depth));
    }
    float* const slice = values + z * plane;
    job.lanes.combine(rows.data(), weights.data(), taps, plane, slice);
    if (channel.factor != 1 || channel.shift != 0) {
      job.lanes.point({channel.factor, channel.shift}, slice, plane);
    }
    if (needs_statistics(channel)) job.lanes.statistics(slice, plane, sums);
  }
}

// Taps of all voxels of an axis, [taps, stride].
struct AxisTaps {
  std::vector<std::int32_t> indices;
  std::vector<float> weights;
  std::int64_t stride;
};
AxisTaps upsampling_axis(std::int32_t size, std::int32_t low, bool cubic) {
  AxisTaps axis;
  axis.stride = padded(size);
  axis.indices.assign(static_cast<std::size_t>(4 * axis.stride), 0);
  axis.weights.assign(static_cast<std::size_t>(4 * axis.stride), 0);
  for (std::int64_t i = 0; i < axis.stride; ++i) {
    std::int32_t index[4];
    float weight[4];
    // Beyond the row its last voxel.
    upsampling_taps(static_cast<std::int32_t>(std::min<std::int64_t>(i, size - 1)), size, low,
                    cubic, index, weight);
    for (std::int64_t k = 0; k < (cubic ? 4 : 2); ++k) {
      axis.indices[static_cast<std::size_t>(k * axis.stride + i)] = index[k];
      axis.weights[static_cast<std::size_t>(k * axis.stride + i)] = weight[k];
    }
  }
  return axis;
}

// In place: of the image of lower resolution only four slices exist at a time, and those already
// upsampled along y and x. Slices still to be read lie beyond the one that is written.
void lower_resolution(const Job& job, const std::int32_t* low, const PointTransform& point,
                      float* values, ValueSums* sums) {
  const SpatialMap& map = job.map();
  const bool cubic = job.transform.cubic_upsampling;
  const std::int32_t taps = cubic ? 4 : 2, height = map.size[1], width = map.size[2];
  const AxisTaps along_z = upsampling_axis(map.size[0], low[0], cubic),
                 along_y = upsampling_axis(height, low[1], cubic),
                 along_x = upsampling_axis(width, low[2], cubic);
  const std::int64_t plane = job.plane();
  float* const row =
      memory(job.scratch.floats, padded(low[2] + kRowSpare) + padded(std::int64_t{low[1]} * width) +
                                     taps * padded(plane));
  float* const wide = row + padded(low[2] + kRowSpare);  // [low 1, W]
  float* const ring = wide + padded(std::int64_t{low[1]} * width);
  const auto slot = [&](std::int32_t z) { return ring + z % taps * padded(plane); };
  const bool changed = changes(point);
  std::int32_t* const source = memory(job.scratch.integers, low[2]);
  for (std::int32_t x = 0; x < low[2]; ++x) source[x] = low_source(x, width, low[2]);

  const float* rows[4];
  float weights[4];
  std::int32_t ready = 0;  // slices of lower resolution
  for (std::int32_t z = 0; z < map.size[0]; ++z) {
    std::int32_t last = 0;
    for (int k = 0; k < taps; ++k) {
      last = std::max(last, along_z.indices[static_cast<std::size_t>(k * along_z.stride + z)]);
    }
    for (; ready <= last; ++ready) {
      const float* const slice = values + low_source(ready, map.size[0], low[0]) * plane;
      for (std::int32_t y = 0; y < low[1]; ++y) {
        const float* const from = slice + std::int64_t{low_source(y, height, low[1])} * width;
        for (std::int32_t x = 0; x < low[2]; ++x) row[x] = from[source[x]];
        if (changed) job.lanes.point(point, row, low[2]);
        job.lanes.upsample(row, along_x.indices.data(), along_x.weights.data(), along_x.stride,
                           taps, width, wide + std::int64_t{y} * width);
      }
      for (std::int32_t y = 0; y < height; ++y) {
        for (int k = 0; k < taps; ++k) {
          const auto at = static_cast<std::size_t>(k * along_y.stride + y);
          rows[k] = wide + std::int64_t{along_y.indices[at]} * width;
          weights[k] = along_y.weights[at];
        }
        job.lanes.combine(rows, weights, taps, width, slot(ready) + std::int64_t{y} * width);
      }
    }
    for (int k = 0; k < taps; ++k) {
      const auto at = static_cast<std::size_t>(k * along_z.stride + z);
      rows[k] = slot(along_z.indices[at]);
      weights[k] = along_z.weights[at];
    }
    float* const slice = values + z * plane;
    job.lanes.combine(rows, weights, taps, plane, slice);
    if (sums != nullptr) job.lanes.statistics(slice, plane, *sums);
  }
}

// ---- Intensities --------------------------------------------------------------------------------

// `point` waits for a pass, min and max are those of the values before it.
struct Waiting {
  PointTransform point;
  float min, max;
};

void gamma(const Job& job, bool inverted, float power, bool retain, float* values,
           Waiting& waiting) {
  const GammaInput input = gamma_input(waiting.point, waiting.min, waiting.max, inverted, power);
  // Powers keep the order.
  const float a = gamma_base(input, waiting.min), b = gamma_base(input, waiting.max);
  const float low = power_of(std::min(a, b), power), high = power_of(std::max(a, b), power);
  if (retain) {
    ValueSums before, after;
    job.lanes.gamma_sums(input, values, job.volume(), before, after);
    waiting = {gamma_output(input, true, statistics_of(before), statistics_of(after)), low, high};
  } else {
    const PointTransform output = gamma_output(input, false, {}, {});
    job.lanes.gamma(input, output, values, job.volume());
    waiting = {{},
               std::min(apply(output, low), apply(output, high)),
               std::max(apply(output, low), apply(output, high))};
  }
}

void change_intensities(const Job& job, const ChannelTransform& channel, float* values,
                        ValueSums sums) {
  const PatchTransform& transform = job.transform;
  if (channel.blur > 0) blur(job, channel, values, sums);
  const ValueStatistics statistics = statistics_of(sums);
  Waiting waiting{{}, statistics.min, statistics.max};
  if (channel.contrast != 1) {
    waiting.point =
        then_contrast({}, statistics, channel.contrast, transform.contrast_preserves_range);
  }
  const bool any_gamma = channel.gamma != 1 || channel.gamma_inverted != 1;
  if (channel.low[0] > 0) {
    ValueSums low;
    lower_resolution(job, channel.low, waiting.point, values, any_gamma ? &low : nullptr);
    waiting = {{}, low.min, low.max};
  }
  if (channel.gamma_inverted != 1) {
    gamma(job, true, channel.gamma_inverted, transform.gamma_inverted_retains, values, waiting);
  }
  if (channel.gamma != 1) {
    gamma(job, false, channel.gamma, transform.gamma_retains, values, waiting);
  }
  if (changes(waiting.point)) job.lanes.point(waiting.point, values, job.volume());
}

}  // namespace

const AugmentLanes& augment_lanes() {
#if defined(SEGMAMBA_X86_LANES)
  if (instruction_set() == InstructionSet::kAvx512) return avx512::augment_lanes();
  if (instruction_set() == InstructionSet::kAvx2) return avx2::augment_lanes();
#endif
  return baseline::augment_lanes();
}

int gaussian_radius(float sigma) { return static_cast<int>(std::lround(4.0 * sigma)); }

std::vector<float> gaussian_weights(float sigma) {
  const int radius = gaussian_radius(sigma);
  std::vector<double> weights;
  double sum = 0;
  for (int i = -radius; i <= radius; ++i) {
    weights.push_back(std::exp(-0.5 * i * i / (static_cast<double>(sigma) * sigma)));
    sum += weights.back();
  }
  std::vector<float> result;
  for (const double weight : weights) result.push_back(static_cast<float>(weight / sum));
  return result;
}

void augment_patch_cpu(const CaseView& from, const PatchTransform& transform, float* image,
                       std::uint8_t* labels, AugmentScratch& scratch) {
  const Job job{from, transform, augment_lanes(), image, labels, scratch};
  std::vector<ValueSums> sums(static_cast<std::size_t>(from.channels));
  if (transform.map.is_copy) {
    sample(job, Copier(job), sums);
  } else {
    sample(job, Resampler(job), sums);
  }
  for (std::int32_t c = 0; c < from.channels; ++c) {
    change_intensities(job, transform.channels[static_cast<std::size_t>(c)], job.channel(c),
                       sums[static_cast<std::size_t>(c)]);
  }
}

}  // namespace segmamba::kernels
