#pragma once
// The augmentation of a patch on the GPU as kernels and items (see cuda_blocks.h), from the
// functions of augment_math.cuh. Nothing waits for the host: what a pass needs to know of the
// values of another one lies in an AugmentState on the device.

#include "augment_math.cuh"
#include "cuda_blocks.h"

namespace segmamba::kernels {

// ---- Sampling -----------------------------------------------------------------------------------

inline constexpr int kGroup = 4;  // channels that are sampled together

struct AugmentSampleParams {
  CaseView from;
  SpatialMap map;
  const float* displacements;
  bool linear_labels;
  std::uint64_t noise_seed;
  std::int32_t first, count;  // the channels
  float noise[kGroup];
  PointTransform point[kGroup];
  float* image;          // [C, D, H, W]
  std::uint8_t* labels;  // [D, H, W], or nullptr
};

enum class AugmentSource { kCopy, kLinear, kCubic };

// A row of the patch (z * H + y) and a voxel of it. kFour: the case has four channels. kDeforms:
// the map has control points, whose sums take many registers.
template <AugmentSource kSource, bool kFour, bool kDeforms>
struct AugmentSample {
  using Params = AugmentSampleParams;

  // Channels of an existing voxel; 0 for those that do not exist.
  SEGMAMBA_HD static void read_inside(const Params& p, const std::uint16_t* at, float* v) {
    if constexpr (kFour) {
      std::uint16_t bits[kGroup];
      memcpy(bits, __builtin_assume_aligned(at, sizeof bits), sizeof bits);
      SEGMAMBA_UNROLL
      for (int c = 0; c < kGroup; ++c) v[c] = half_value(bits[c]);
    } else {
      SEGMAMBA_UNROLL
      for (int c = 0; c < kGroup; ++c) v[c] = c < p.count ? half_value(at[c]) : 0.0F;
    }
  }
  SEGMAMBA_HD static const std::uint16_t* address(const Params& p, std::int32_t z, std::int32_t y,
                                                  std::int32_t x) {
    return p.from.image + voxel_index(p.from, z, y, x) * (kFour ? kGroup : p.from.channels) +
           p.first;
  }
  SEGMAMBA_HD static void read(const Params& p, std::int32_t z, std::int32_t y, std::int32_t x,
                               float* v) {
    if (is_inside(p.from, z, y, x)) return read_inside(p, address(p, z, y, x), v);
    SEGMAMBA_UNROLL
    for (int c = 0; c < kGroup; ++c) {
      v[c] = c < p.count ? outside_value(p.from, p.first + c) : 0.0F;
    }
  }

  // kTaps^3 voxels from (z, y, x) on, added up over z and y: column[k] is that of voxel x + k.
  template <int kTaps, bool kInside>
  SEGMAMBA_HD static void add_rows(const Params& p, std::int32_t z, std::int32_t y, std::int32_t x,
                                   float* wz, const float* wy, float (*column)[kGroup]) {
    const std::int32_t next = kFour ? kGroup : p.from.channels;
    const std::int64_t row = static_cast<std::int64_t>(p.from.size[2]) * next,
                       plane = p.from.size[1] * row;
    const std::uint16_t* slice = kInside ? address(p, z, y, x) : nullptr;
    SEGMAMBA_UNROLL_NONE
    for (int i = 0; i < kTaps; ++i, slice += kInside ? plane : 0) {
      const float of_slice = next_weight<kTaps>(wz);
      SEGMAMBA_UNROLL
      for (int j = 0; j < kTaps; ++j) {
        const float weight = of_slice * wy[j];
        SEGMAMBA_UNROLL
        for (int k = 0; k < kTaps; ++k) {
          float voxel[kGroup];
          if constexpr (kInside) {
            read_inside(p, slice + j * row + k * next, voxel);
          } else {
            read(p, z + i, y + j, x + k, voxel);
          }
          SEGMAMBA_UNROLL
          for (int c = 0; c < kGroup; ++c) column[k][c] += weight * voxel[c];
        }
      }
    }
  }

  // As sample_linear() and sample_cubic(), for channels that share their positions and weights.
  SEGMAMBA_HD static void sample(const Params& p, const Position& position, float* v) {
    std::int32_t z = whole_part(position.at[0]), y = whole_part(position.at[1]),
                 x = whole_part(position.at[2]);
    if constexpr (kSource == AugmentSource::kCopy) return read(p, z, y, x, v);
    constexpr int kTaps = kSource == AugmentSource::kCubic ? 4 : 2;
    float weight[3][kTaps];
    SEGMAMBA_UNROLL
    for (int a = 0; a < 3; ++a) {
      const float t = fraction_of(position.at[a]);
      if constexpr (kTaps == 4) {
        keys_weights(t, weight[a]);
      } else {
        weight[a][0] = 1.0F - t;
        weight[a][1] = t;
      }
    }
    if constexpr (kTaps == 4) --z, --y, --x;
    float column[kTaps][kGroup] = {};
    const CaseView& from = p.from;
    if (is_inside(from, z, y, x) && is_inside(from, z + kTaps - 1, y + kTaps - 1, x + kTaps - 1)) {
      add_rows<kTaps, true>(p, z, y, x, weight[0], weight[1], column);
    } else {
      add_rows<kTaps, false>(p, z, y, x, weight[0], weight[1], column);
    }
    SEGMAMBA_UNROLL
    for (int c = 0; c < kGroup; ++c) {
      if constexpr (kTaps == 4) {
        v[c] = (weight[2][0] * column[0][c] + weight[2][1] * column[1][c]) +
               (weight[2][2] * column[2][c] + weight[2][3] * column[3][c]);
      } else {
        v[c] = column[0][c] + weight[2][1] * (column[1][c] - column[0][c]);
      }
    }
  }

  SEGMAMBA_HD static void run(const Params& p, std::int64_t row, std::int32_t x) {
    const SpatialMap& map = p.map;
    const std::int32_t z = static_cast<std::int32_t>(row) / map.size[1],
                       y = static_cast<std::int32_t>(row) - z * map.size[1];
    const Position position =
        kDeforms ? map_voxel(map, p.displacements, z, y, x) : straight_position(map, z, y, x);
    const std::int64_t voxel = row * map.size[2] + x;
    const std::int64_t volume = std::int64_t{map.size[0]} * map.size[1] * map.size[2];
    float v[kGroup];
    sample(p, position, v);
    SEGMAMBA_UNROLL
    for (int c = 0; c < kGroup; ++c) {
      if (c >= p.count) continue;
      if (p.noise[c] != 0) v[c] += p.noise[c] * normal_noise(p.noise_seed, p.first + c, voxel);
      p.image[(p.first + c) * volume + voxel] = apply(p.point[c], v[c]);
    }
    if (p.labels == nullptr) return;
    std::uint8_t label = 0;
    if (p.from.labels != nullptr) {
      label = kSource == AugmentSource::kCopy || !p.linear_labels
                  ? sample_nearest_label(p.from, position)
                  : sample_linear_label(p.from, position);
    }
    p.labels[voxel] = label;
  }
};

// ---- Neighbours ---------------------------------------------------------------------------------

// Sixteen voxels is the largest standard deviation of a blur (BlurConfig).
inline constexpr int kMaxBlurRadius = 64;

struct AugmentBlurParams {
  const float* from;
  float* to;
  std::int32_t size[3];
  int radius;
  PointTransform point;  // of the result
  float weights[2 * kMaxBlurRadius + 1];
};
// One axis of a Gaussian; from and to do not overlap.
template <int kAxis>
struct AugmentBlur {
  using Params = AugmentBlurParams;
  SEGMAMBA_HD static void run(const Params& p, std::int64_t row, std::int32_t x) {
    const std::int32_t z = static_cast<std::int32_t>(row) / p.size[1];
    const std::int32_t at = kAxis == 0   ? z
                            : kAxis == 1 ? static_cast<std::int32_t>(row) - z * p.size[1]
                                         : x;
    const std::int64_t stride = kAxis == 0   ? std::int64_t{p.size[1]} * p.size[2]
                                : kAxis == 1 ? p.size[2]
                                             : 1;
    const std::int64_t voxel = row * p.size[2] + x;
    const float* const first = p.from + (voxel - at * stride);
    const std::int32_t size = p.size[kAxis];
    float sum = 0;
    if (at >= p.radius && at + p.radius < size) {
      const float* tap = first + (at - p.radius) * stride;
      for (int k = 0; k <= 2 * p.radius; ++k, tap += stride) sum += p.weights[k] * *tap;
    } else {
      for (int k = 0; k <= 2 * p.radius; ++k) {
        sum += p.weights[k] * first[mirrored_index(at + k - p.radius, size) * stride];
      }
    }
    p.to[voxel] = apply(p.point, sum);
  }
};

// What waits on a channel, between its passes: see change_intensities() in augment_cpu.cpp.
struct AugmentState {
  PointTransform point;  // still to be applied to the values
  float min, max;        // of the values before it
  GammaInput gamma;      // of the gamma that comes next,
  float low, high;       // and the smallest and largest power of it
};

SEGMAMBA_HD PointTransform waiting_point(const AugmentState* state) {
  return state == nullptr ? PointTransform{} : state->point;
}

// Voxels of the low row around a voxel of the patch along one axis, and their weights.
struct alignas(16) AugmentTaps {
  std::int32_t index[4];
  float weight[4];
};
struct AugmentLowParams {
  std::int32_t size[3], low[3];
  bool cubic;
  AugmentTaps* taps[3];       // [size] of each axis
  const AugmentState* state;  // nullptr where nothing waits
  float* values;              // [D, H, W]
  float* wide;                // [low z, low y, W]
};
// Row: the axis; column: a voxel along it. Two taps where linear, the others with a weight of 0.
struct AugmentLowTaps {
  using Params = AugmentLowParams;
  SEGMAMBA_HD static void run(const Params& p, std::int64_t axis, std::int32_t i) {
    const auto a = static_cast<int>(axis);
    if (i >= p.size[a]) return;
    AugmentTaps taps{};
    if (p.cubic) {
      upsampling_taps(i, p.size[a], p.low[a], true, taps.index, taps.weight);
    } else {
      upsampling_taps(i, p.size[a], p.low[a], false, taps.index, taps.weight);
    }
    p.taps[a][i] = taps;
  }
};
// Row: low z * low y; column: x of the patch.
struct AugmentLowAlongX {
  using Params = AugmentLowParams;
  SEGMAMBA_HD static void run(const Params& p, std::int64_t row, std::int32_t x) {
    const std::int32_t z = static_cast<std::int32_t>(row) / p.low[1],
                       y = static_cast<std::int32_t>(row) - z * p.low[1];
    const float* const from =
        p.values + (static_cast<std::int64_t>(low_source(z, p.size[0], p.low[0])) * p.size[1] +
                    low_source(y, p.size[1], p.low[1])) *
                       p.size[2];
    const PointTransform point = waiting_point(p.state);
    const AugmentTaps taps = p.taps[2][x];
    float sum = 0;
    SEGMAMBA_UNROLL
    for (int k = 0; k < 4; ++k) {
      if (k >= 2 && !p.cubic) continue;
      sum += taps.weight[k] * apply(point, from[low_source(taps.index[k], p.size[2], p.low[2])]);
    }
    p.wide[row * p.size[2] + x] = sum;
  }
};
// Row: z * H + y of the patch. Writes the values.
struct AugmentLowAlongYz {
  using Params = AugmentLowParams;
  SEGMAMBA_HD static void run(const Params& p, std::int64_t row, std::int32_t x) {
    const std::int32_t z = static_cast<std::int32_t>(row) / p.size[1],
                       y = static_cast<std::int32_t>(row) - z * p.size[1];
    const AugmentTaps tz = p.taps[0][z], ty = p.taps[1][y];
    float sum = 0;
    SEGMAMBA_UNROLL
    for (int i = 0; i < 4; ++i) {
      if (i >= 2 && !p.cubic) continue;
      const float* const slice =
          p.wide + static_cast<std::int64_t>(tz.index[i]) * p.low[1] * p.size[2] + x;
      float part = 0;
      SEGMAMBA_UNROLL
      for (int k = 0; k < 4; ++k) {
        if (k >= 2 && !p.cubic) continue;
        part += ty.weight[k] * slice[static_cast<std::int64_t>(ty.index[k]) * p.size[2]];
      }
      sum += tz.weight[i] * part;
    }
    p.values[row * p.size[2] + x] = sum;
  }
};

// ---- Intensities --------------------------------------------------------------------------------

// Row: z * H + y; column: x.
struct AugmentPoint {
  struct Params {
    float* values;
    std::int32_t width;
    const AugmentState* state;
  };
  SEGMAMBA_HD static void run(const Params& p, std::int64_t row, std::int32_t x) {
    float* const at = p.values + row * p.width + x;
    *at = apply(p.state->point, *at);
  }
};

// Sums of a set of values, and of their powers under gamma.
struct AugmentSums {
  float min, max;
  double sum[2], squares[2];

  SEGMAMBA_HD void clear() {
    min = 3.402823466e+38F;
    max = -3.402823466e+38F;
    sum[0] = sum[1] = squares[0] = squares[1] = 0;
  }
  SEGMAMBA_HD void add(const AugmentSums& other) {
    min = smaller_of(other.min, min);
    max = larger_of(other.max, max);
    for (int k = 0; k < 2; ++k) {
      sum[k] += other.sum[k];
      squares[k] += other.squares[k];
    }
  }
  SEGMAMBA_HD void add(int k, float v) {
    sum[k] += v;
    squares[k] += static_cast<double>(v) * v;
  }
  SEGMAMBA_HD ValueStatistics statistics(int k, std::int64_t count) const {
    const auto n = static_cast<double>(count);
    const double mean = sum[k] / n, variance = squares[k] / n - mean * mean;
    return {min, max, mean, ::sqrt(variance > 0 ? variance : 0.0)};
  }
};

inline constexpr int kSumThreads = 256;
struct AugmentSumRegisters {
  AugmentSums sums;
};
struct AugmentSumShared {
  AugmentSums sums[kSumThreads];
};
// Adds up the threads' sums into that of thread 0, over a tree that is the same every time.
template <class Block>
SEGMAMBA_HD void add_up_threads(Block& block) {
  AugmentSums* const sums = block.shared().sums;
  block.each([&](int thread, AugmentSumRegisters& mine) { sums[thread] = mine.sums; });
  for (int half = kSumThreads / 2; half > 0; half /= 2) {
    block.each([&](int thread, AugmentSumRegisters&) {
      if (thread < half) sums[thread].add(sums[thread + half]);
    });
  }
}

struct AugmentReduceParams {
  float* values;
  std::int64_t count, of_block;
  const AugmentState* state;
  AugmentSums* partial;  // [blocks]
};
// The sums of a block's part of the values. kGamma: of gamma_base() and its power, which takes the
// place of the values.
template <bool kGamma>
struct AugmentReduce {
  using Params = AugmentReduceParams;
  using Registers = AugmentSumRegisters;
  using Shared = AugmentSumShared;
  static constexpr int kMaxThreads = kSumThreads, kMinBlocks = 1;

  template <class Block>
  SEGMAMBA_HD static void run(const Params& p, const Place& place, Block& block) {
    const std::int64_t begin = place.segment * p.of_block;
    const std::int64_t end = p.count - begin < p.of_block ? p.count : begin + p.of_block;
    block.each_alone([&](int thread, Registers& mine) {
      mine.sums.clear();
      for (std::int64_t i = begin + thread; i < end; i += kSumThreads) {
        const float v = p.values[i];
        if constexpr (kGamma) {
          const float base = gamma_base(p.state->gamma, v);
          const float power = power_of(base, p.state->gamma.power);
          p.values[i] = power;
          mine.sums.add(0, base);
          mine.sums.add(1, power);
        } else {
          mine.sums.min = smaller_of(v, mine.sums.min);
          mine.sums.max = larger_of(v, mine.sums.max);
          mine.sums.add(0, v);
        }
      }
    });
    add_up_threads(block);
    block.each_alone([&](int thread, Registers&) {
      if (thread == 0) p.partial[place.segment] = block.shared().sums[0];
    });
  }
};

// Adds up the blocks' sums, and turns them into what is to be done with the values. One block.
struct AugmentFinish {
  struct Params {
    const AugmentSums* partial;
    int partials;
    std::int64_t count;  // of the values
    AugmentState* state;
    bool after_gamma;     // the sums are those of gamma, else of plain values
    bool retain;          // of that gamma
    float contrast;       // of plain values; 1: none
    bool preserve_range;  // of the contrast
    float next_gamma;     // 1: none
    bool next_inverted;
  };
  using Registers = AugmentSumRegisters;
  using Shared = AugmentSumShared;
  static constexpr int kMaxThreads = kSumThreads, kMinBlocks = 1;

  SEGMAMBA_HD static void update(const Params& p, const AugmentSums& sums) {
    AugmentState state;
    if (p.after_gamma) {
      const AugmentState before = *p.state;
      state.point = gamma_output(before.gamma, p.retain, sums.statistics(0, p.count),
                                 sums.statistics(1, p.count));
      state.min = before.low;
      state.max = before.high;
    } else {
      const ValueStatistics values = sums.statistics(0, p.count);
      if (p.contrast != 1) {
        state.point = then_contrast({}, values, p.contrast, p.preserve_range);
      }
      state.min = values.min;
      state.max = values.max;
    }
    state.gamma = GammaInput{};
    state.low = state.high = 0;
    if (p.next_gamma != 1) {
      state.gamma = gamma_input(state.point, state.min, state.max, p.next_inverted, p.next_gamma);
      // Powers keep the order.
      const float a = gamma_base(state.gamma, state.min), b = gamma_base(state.gamma, state.max);
      state.low = power_of(smaller_of(a, b), p.next_gamma);
      state.high = power_of(larger_of(a, b), p.next_gamma);
    }
    *p.state = state;
  }

  template <class Block>
  SEGMAMBA_HD static void run(const Params& p, const Place&, Block& block) {
    block.each_alone([&](int thread, Registers& mine) {
      mine.sums.clear();
      for (int i = thread; i < p.partials; i += kSumThreads) mine.sums.add(p.partial[i]);
    });
    add_up_threads(block);
    block.each_alone([&](int thread, Registers&) {
      if (thread == 0) update(p, block.shared().sums[0]);
    });
  }
};

// ---- Launches -----------------------------------------------------------------------------------

// Where things lie in the workspace, in bytes from its begin.
class AugmentLayout {
 public:
  explicit AugmentLayout(const PatchTransform& transform) {
    const SpatialMap& map = transform.map;
    count = std::int64_t{map.size[0]} * map.size[1] * map.size[2];
    // Enough blocks to fill a GPU, and enough values for each of their threads.
    constexpr std::int64_t kMostBlocks = 1024, kSmallestPart = 8 * kSumThreads;
    const std::int64_t parts = (count + kSmallestPart - 1) / kSmallestPart;
    const int wanted = static_cast<int>(parts < kMostBlocks ? parts : kMostBlocks);
    of_block = std::int64_t{divide_up(divide_up(count, wanted), kSumThreads)} * kSumThreads;
    blocks = divide_up(count, of_block);

    bool blurs = false, lowers = false;
    for (const ChannelTransform& channel : transform.channels) {
      blurs = blurs || channel.blur > 0;
      lowers = lowers || channel.low[0] > 0;
    }
    displacements = take(transform.displacements.size() * sizeof(float));
    state = take(sizeof(AugmentState));
    partial = take(static_cast<std::size_t>(blocks) * sizeof(AugmentSums));
    for (int a = 0; a < 3; ++a) {
      taps[a] = take(lowers ? static_cast<std::size_t>(map.size[a]) * sizeof(AugmentTaps) : 0);
    }
    const std::size_t volume = static_cast<std::size_t>(count) * sizeof(float);
    first = take(blurs || lowers ? volume : 0);
    second = take(blurs ? volume : 0);
  }

  std::int64_t count;     // voxels of the patch
  std::int64_t of_block;  // values that a block of AugmentReduce adds up
  int blocks;
  std::size_t displacements, state, partial, taps[3], first, second;
  std::size_t bytes = 0;

 private:
  std::size_t take(std::size_t size) {
    const std::size_t at = bytes;
    bytes += (size + 255) / 256 * 256;
    return at;
  }
};

// Runs the passes of a patch, in the order of augment_cpu.cpp.
template <class Launcher>
class AugmentPasses {
 public:
  // The displacements lie in the workspace already.
  AugmentPasses(const CaseView& from, const PatchTransform& transform, float* image,
                std::uint8_t* labels, void* workspace, const Launcher& launcher)
      : from_(from),
        transform_(transform),
        layout_(transform),
        image_(image),
        labels_(labels),
        workspace_(static_cast<unsigned char*>(workspace)),
        launcher_(launcher) {}

  void run() {
    for (std::int32_t c = 0; c < from_.channels; c += kGroup) sample(c);
    for (std::int32_t c = 0; c < from_.channels; ++c) {
      change_intensities(transform_.channels[static_cast<std::size_t>(c)],
                         image_ + c * layout_.count);
    }
  }

 private:
  template <class T>
  T* at(std::size_t offset) const {
    return reinterpret_cast<T*>(workspace_ + offset);
  }
  const SpatialMap& map() const { return transform_.map; }
  std::int64_t rows() const { return std::int64_t{map().size[0]} * map().size[1]; }

  void sample(std::int32_t first) {
    AugmentSampleParams p{};
    p.from = from_;
    p.map = map();
    p.displacements = at<const float>(layout_.displacements);
    p.linear_labels = transform_.linear_labels;
    p.noise_seed = transform_.noise_seed;
    p.first = first;
    p.count = from_.channels - first < kGroup ? from_.channels - first : kGroup;
    for (std::int32_t c = 0; c < p.count; ++c) {
      const ChannelTransform& channel = transform_.channels[static_cast<std::size_t>(first + c)];
      p.noise[c] = channel.noise;
      // A blur comes before the brightness.
      if (channel.blur <= 0) p.point[c] = {channel.factor, channel.shift};
    }
    p.image = image_;
    p.labels = first == 0 ? labels_ : nullptr;
    if (transform_.map.is_copy) {
      sample<AugmentSource::kCopy>(p);
    } else if (transform_.cubic_image) {
      sample<AugmentSource::kCubic>(p);
    } else {
      sample<AugmentSource::kLinear>(p);
    }
  }
  template <AugmentSource kSource>
  void sample(const AugmentSampleParams& p) {
    if constexpr (kSource != AugmentSource::kCopy) {
      if (p.map.points[0] != 0) return sample<kSource, true>(p);
    }
    sample<kSource, false>(p);
  }
  template <AugmentSource kSource, bool kDeforms>
  void sample(const AugmentSampleParams& p) {
    if (p.from.channels == kGroup) {
      launcher_.template items<AugmentSample<kSource, true, kDeforms>>(p, rows(), map().size[2]);
    } else {
      launcher_.template items<AugmentSample<kSource, false, kDeforms>>(p, rows(), map().size[2]);
    }
  }

  void blur(const ChannelTransform& channel, float* values) {
    AugmentBlurParams p{};
    for (int a = 0; a < 3; ++a) p.size[a] = map().size[a];
    p.radius = gaussian_radius(channel.blur);
    const std::vector<float> weights = gaussian_weights(channel.blur);
    for (std::size_t k = 0; k < weights.size(); ++k) p.weights[k] = weights[k];
    p.from = values;
    p.to = at<float>(layout_.first);
    launcher_.template items<AugmentBlur<2>>(p, rows(), map().size[2]);
    p.from = p.to;
    p.to = at<float>(layout_.second);
    launcher_.template items<AugmentBlur<1>>(p, rows(), map().size[2]);
    p.from = p.to;
    p.to = values;
    p.point = {channel.factor, channel.shift};
    launcher_.template items<AugmentBlur<0>>(p, rows(), map().size[2]);
  }

  void lower_resolution(const ChannelTransform& channel, const AugmentState* state, float* values) {
    AugmentLowParams p{};
    std::int32_t longest = 0;
    for (int a = 0; a < 3; ++a) {
      p.size[a] = map().size[a];
      p.low[a] = channel.low[a];
      p.taps[a] = at<AugmentTaps>(layout_.taps[a]);
      if (p.size[a] > longest) longest = p.size[a];
    }
    p.cubic = transform_.cubic_upsampling;
    p.state = state;
    p.values = values;
    p.wide = at<float>(layout_.first);
    launcher_.template items<AugmentLowTaps>(p, 3, longest);
    launcher_.template items<AugmentLowAlongX>(p, std::int64_t{p.low[0]} * p.low[1], p.size[2]);
    launcher_.template items<AugmentLowAlongYz>(p, rows(), p.size[2]);
  }

  template <bool kGamma>
  void reduce(float* values) {
    Grid grid{layout_.blocks, 1, 1};
    grid.threads = kSumThreads;
    launcher_.template blocks<AugmentReduce<kGamma>>(
        {values, layout_.count, layout_.of_block, at<AugmentState>(layout_.state),
         at<AugmentSums>(layout_.partial)},
        grid);
  }
  void finish(typename AugmentFinish::Params p) {
    p.partial = at<AugmentSums>(layout_.partial);
    p.partials = layout_.blocks;
    p.count = layout_.count;
    p.state = at<AugmentState>(layout_.state);
    Grid grid{1, 1, 1};
    grid.threads = kSumThreads;
    launcher_.template blocks<AugmentFinish>(p, grid);
  }

  void change_intensities(const ChannelTransform& channel, float* values) {
    if (channel.blur > 0) blur(channel, values);
    const bool lowers = channel.low[0] > 0, contrasts = channel.contrast != 1;
    const bool inverted_comes = channel.gamma_inverted != 1, gamma_comes = channel.gamma != 1;
    const auto before_gamma = [&](float contrast, bool gamma_is_next) {
      reduce<false>(values);
      AugmentFinish::Params p{};
      p.contrast = contrast;
      p.preserve_range = transform_.contrast_preserves_range;
      p.next_inverted = inverted_comes;
      p.next_gamma = !gamma_is_next   ? 1.0F
                     : inverted_comes ? channel.gamma_inverted
                                      : channel.gamma;
      finish(p);
    };
    const bool any_gamma = inverted_comes || gamma_comes;
    if (contrasts || (any_gamma && !lowers)) before_gamma(channel.contrast, !lowers);
    if (lowers) {
      lower_resolution(channel, contrasts ? at<AugmentState>(layout_.state) : nullptr, values);
      if (any_gamma) before_gamma(1, true);
    }
    if (inverted_comes) {
      reduce<true>(values);
      AugmentFinish::Params p{};
      p.after_gamma = true;
      p.retain = transform_.gamma_inverted_retains;
      p.next_gamma = channel.gamma;
      finish(p);
    }
    if (gamma_comes) {
      reduce<true>(values);
      AugmentFinish::Params p{};
      p.after_gamma = true;
      p.retain = transform_.gamma_retains;
      p.next_gamma = 1;
      finish(p);
    }
    if (any_gamma || (contrasts && !lowers)) {
      launcher_.template items<AugmentPoint>(
          {values, map().size[2], at<AugmentState>(layout_.state)}, rows(), map().size[2]);
    }
  }

  const CaseView& from_;
  const PatchTransform& transform_;
  AugmentLayout layout_;
  float* image_;
  std::uint8_t* labels_;
  unsigned char* workspace_;
  Launcher launcher_;
};

}  // namespace segmamba::kernels
