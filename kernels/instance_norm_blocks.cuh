#pragma once
// The instance norm on the GPU as kernels (see cuda_blocks.h): partial sums of spans of voxels, a
// block a channel that adds them up, and a pass that writes. Threads read 16 bytes at a time where
// the shape and the pointers allow.

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <type_traits>

#include "cuda_blocks.h"
#include "instance_norm.h"

namespace segmamba::kernels {

inline constexpr int kNormThreads = 256, kNormMergeThreads = 128;

// Sequences of rows, an item's voxels (channels last) or vectors of a channel of an item. A thread
// has a place in a row and walks down the rows of its span. Follows from the shape alone.
struct NormPlan {
  NormPlan(const VolumeShape& s, int numbers_a_load)
      : shape(s),
        vector(numbers_a_load),
        period(s.channels_last ? static_cast<int>(s.channels) : vector),
        groups(period / vector),
        sequences(static_cast<int>(s.channels_last ? s.batch : s.batch * s.channels)),
        rows(s.channels_last ? s.voxels : s.voxels / vector) {
    const auto divide_up = [](std::int64_t a, std::int64_t b) { return (a + b - 1) / b; };
    tiles = static_cast<int>(divide_up(groups, kNormThreads));
    tile_groups = static_cast<int>(divide_up(groups, tiles));
    block_rows = kNormThreads / tile_groups;
    constexpr int kWantedBlocks = 2048, kLeastRowsAThread = 8;
    const auto wanted =
        std::max<std::int64_t>(1, kWantedBlocks / (static_cast<std::int64_t>(sequences) * tiles));
    span = std::max<std::int64_t>(divide_up(rows, wanted), block_rows * kLeastRowsAThread);
    segments = static_cast<int>(divide_up(rows, span));
  }
  Grid grid() const { return {segments, tiles, sequences, 0, kNormThreads}; }
  // Of the channels of all items.
  std::int64_t statistics() const { return shape.batch * shape.channels; }

  VolumeShape shape;
  int vector, period, groups, sequences;
  std::int64_t rows, span;
  int segments = 0, tiles = 0, tile_groups = 0, block_rows = 0;
};

template <class T, int kVector>
struct alignas(sizeof(T) * kVector) NormLoad {
  T number[kVector];
};

template <class T, int kVector>
SEGMAMBA_HD void load_numbers(const T* from, State<T> (&to)[kVector]) {
  const auto load = *reinterpret_cast<const NormLoad<T, kVector>*>(from);
  SEGMAMBA_UNROLL
  for (int j = 0; j < kVector; ++j) to[j] = to_state(load.number[j]);
}
template <class T, int kVector>
SEGMAMBA_HD void store_numbers(const State<T> (&from)[kVector], T* to) {
  NormLoad<T, kVector> store;
  SEGMAMBA_UNROLL
  for (int j = 0; j < kVector; ++j) from_state(from[j], store.number[j]);
  *reinterpret_cast<NormLoad<T, kVector>*>(to) = store;
}

// What a thread works on.
template <int kVector>
struct NormThread {
  bool active;
  int row, group;                 // within the block; within the sequence's rows
  std::int64_t begin, end, step;  // its first number, that of the span's end, and between rows
  std::int64_t statistic;         // of its first number, among [batch, channels]
  int channel, apart;             // of its first number, and of the next one from it: 0 or 1
  std::int64_t span_begin, span_rows;

  SEGMAMBA_HD void start(const NormPlan& plan, const Place& place, int thread) {
    const VolumeShape& s = plan.shape;
    row = thread / plan.tile_groups;
    group = place.tile * plan.tile_groups + thread % plan.tile_groups;
    active = row < plan.block_rows && group < plan.groups;
    const std::int64_t first_row = place.segment * plan.span;
    const std::int64_t last_row =
        first_row + plan.span < plan.rows ? first_row + plan.span : plan.rows;
    const std::int64_t sequence = place.sequence * plan.rows * plan.period;
    span_rows = last_row - first_row;
    span_begin = sequence + first_row * plan.period + group * kVector;
    begin = span_begin + static_cast<std::int64_t>(row) * plan.period;
    end = sequence + last_row * plan.period;
    step = static_cast<std::int64_t>(plan.block_rows) * plan.period;
    apart = s.channels_last ? 1 : 0;
    channel = s.channels_last ? group * kVector : static_cast<int>(place.sequence % s.channels);
    statistic = s.channels_last ? place.sequence * s.channels + channel : place.sequence;
  }
  // One number a channel of each number that the thread reads.
  template <class S>
  SEGMAMBA_HD void read(const S* of_items, S otherwise, S (&to)[kVector]) const {
    SEGMAMBA_UNROLL
    for (int j = 0; j < kVector; ++j) {
      to[j] = of_items ? of_items[statistic + j * apart] : otherwise;
    }
  }
  template <class S>
  SEGMAMBA_HD void read_weights(const S* of_channels, S otherwise, S (&to)[kVector]) const {
    SEGMAMBA_UNROLL
    for (int j = 0; j < kVector; ++j) {
      to[j] = of_channels ? of_channels[channel + j * apart] : otherwise;
    }
  }
};

template <class S, int kVector, int kSums>
struct NormSums {
  S sum[kSums][kVector][kNormThreads];
};

// Adds up the threads' sums in shared memory and calls write(thread's registers, sums of one
// channel, number of the channel among the thread's) for every channel of the block.
template <int kVector, int kSums, class Block, class Write>
SEGMAMBA_HD void add_up(Block& block, const NormPlan& plan, const Write& write) {
  int half = 1;
  while (2 * half < plan.block_rows) half *= 2;
  for (; half > 0; half /= 2) {
    block.each([&](int thread, typename Block::Registers& r) {
      const bool has_other = r.at.active && r.at.row < half && r.at.row + half < plan.block_rows;
      if (!has_other) return;
      auto& sum = block.shared().sum;
      SEGMAMBA_UNROLL
      for (int i = 0; i < kSums; ++i) {
        SEGMAMBA_UNROLL
        for (int j = 0; j < kVector; ++j) {
          sum[i][j][thread] += sum[i][j][thread + half * plan.tile_groups];
        }
      }
    });
  }
  block.each_alone([&](int thread, typename Block::Registers& r) {
    if (!r.at.active || r.at.row > 0) return;
    using S = std::decay_t<decltype(block.shared().sum[0][0][0])>;
    S total[kSums][kVector];
    SEGMAMBA_UNROLL
    for (int i = 0; i < kSums; ++i) {
      SEGMAMBA_UNROLL
      for (int j = 0; j < kVector; ++j) total[i][j] = block.shared().sum[i][j][thread];
    }
    const int channels = r.at.apart ? kVector : 1;
    SEGMAMBA_UNROLL
    for (int j = 0; j < kVector; ++j) {
      S of_channel[kSums];
      SEGMAMBA_UNROLL
      for (int i = 0; i < kSums; ++i) {
        of_channel[i] = total[i][j];
        if (channels > 1) continue;
        for (int other = 1; other < kVector; ++other) of_channel[i] += total[i][other];
      }
      if (j < channels) write(r, of_channel, j);
    }
  });
}

// Where spans leave their sums, [batch, channels, segments] each.
template <class S, int kSums>
struct NormPartials {
  S* sum[kSums];
  SEGMAMBA_HD void write(const NormPlan& plan, std::int64_t statistic, int segment,
                         const S (&values)[kSums]) const {
    SEGMAMBA_UNROLL
    for (int i = 0; i < kSums; ++i) sum[i][statistic * plan.segments + segment] = values[i];
  }
};

template <class T>
struct NormMomentParams {
  NormPlan plan;
  const T* x;
  NormPartials<State<T>, 2> partials;  // mean, and squares of deviations from it
};

// Sums count from the first number of the span, one of its own, so that a large mean takes little
// from them.
template <class T, int kVector>
struct NormMoments {
  using S = State<T>;
  using Params = NormMomentParams<T>;
  using Shared = NormSums<S, kVector, 2>;
  static constexpr int kMaxThreads = kNormThreads;
  static constexpr int kMinBlocks = 4;
  struct Registers {
    NormThread<kVector> at;
    S origin[kVector];
  };

  template <class Block>
  SEGMAMBA_HD static void run(const Params& p, const Place& place, Block& block) {
    block.each([&](int thread, Registers& r) {
      r.at.start(p.plan, place, thread);
      if (!r.at.active) return;
      load_numbers<T, kVector>(p.x + r.at.span_begin, r.origin);
      S sum[kVector] = {}, squares[kVector] = {};
      SEGMAMBA_UNROLL
      for (int j = 1; j < kVector; ++j) {
        if (!r.at.apart) r.origin[j] = r.origin[0];
      }
      for (std::int64_t i = r.at.begin; i < r.at.end; i += r.at.step) {
        S number[kVector];
        load_numbers<T, kVector>(p.x + i, number);
        SEGMAMBA_UNROLL
        for (int j = 0; j < kVector; ++j) {
          const S apart = number[j] - r.origin[j];
          sum[j] += apart;
          squares[j] += apart * apart;
        }
      }
      auto& shared = block.shared().sum;
      SEGMAMBA_UNROLL
      for (int j = 0; j < kVector; ++j) {
        shared[0][j][thread] = sum[j];
        shared[1][j][thread] = squares[j];
      }
    });
    add_up<kVector, 2>(block, p.plan, [&](Registers& r, const S(&sums)[2], int j) {
      const S count = static_cast<S>(r.at.apart ? r.at.span_rows : r.at.span_rows * kVector);
      const S apart = sums[0] / count;
      const S squares = sums[1] - sums[0] * apart;
      p.partials.write(p.plan, r.at.statistic + j, place.segment,
                       {r.origin[j] + apart, squares > 0 ? squares : S(0)});
    });
  }
};

// A block a channel of an item; Body: what its threads add up over the segments, and what of that
// is written.
template <class Body>
struct NormMerge {
  using Params = typename Body::Params;
  static constexpr int kMaxThreads = kNormMergeThreads;
  static constexpr int kMinBlocks = 1;
  struct Shared {
    double sum[Body::kSums][kNormMergeThreads];
  };
  struct Registers {};

  template <class Block>
  SEGMAMBA_HD static void run(const Params& p, const Place& place, Block& block) {
    const std::int64_t statistic = place.sequence;
    block.each([&](int thread, Registers&) {
      double sums[Body::kSums] = {};
      for (int segment = thread; segment < p.plan.segments; segment += kNormMergeThreads) {
        Body::add(p, statistic, segment, sums);
      }
      SEGMAMBA_UNROLL
      for (int i = 0; i < Body::kSums; ++i) block.shared().sum[i][thread] = sums[i];
    });
    for (int half = kNormMergeThreads / 2; half > 0; half /= 2) {
      block.each([&](int thread, Registers&) {
        if (thread >= half) return;
        SEGMAMBA_UNROLL
        for (int i = 0; i < Body::kSums; ++i) {
          block.shared().sum[i][thread] += block.shared().sum[i][thread + half];
        }
      });
    }
    block.each_alone([&](int thread, Registers&) {
      if (thread > 0) return;
      double sums[Body::kSums];
      SEGMAMBA_UNROLL
      for (int i = 0; i < Body::kSums; ++i) sums[i] = block.shared().sum[i][0];
      Body::write(p, statistic, sums);
    });
  }
};

template <class S>
struct MergeMomentsParams {
  NormPlan plan;
  NormPartials<S, 2> partials;
  double eps;
  NormStatistics<S> to;
};

template <class S>
struct MergeMoments {
  using Params = MergeMomentsParams<S>;
  static constexpr int kSums = 2;

  // Means count from that of the first segment.
  SEGMAMBA_HD static double origin(const Params& p, std::int64_t statistic) {
    return p.partials.sum[0][statistic * p.plan.segments];
  }
  SEGMAMBA_HD static void add(const Params& p, std::int64_t statistic, int segment,
                              double (&sums)[kSums]) {
    const NormPlan& plan = p.plan;
    const std::int64_t first = segment * plan.span;
    const std::int64_t rows = first + plan.span < plan.rows ? plan.span : plan.rows - first;
    const auto count = static_cast<double>(plan.shape.channels_last ? rows : rows * plan.vector);
    const std::int64_t at = statistic * plan.segments + segment;
    const double apart = p.partials.sum[0][at] - origin(p, statistic);
    sums[0] += count * apart;
    sums[1] += p.partials.sum[1][at] + count * apart * apart;
  }
  SEGMAMBA_HD static void write(const Params& p, std::int64_t statistic,
                                const double (&sums)[kSums]) {
    const auto count = static_cast<double>(p.plan.shape.voxels);
    const double apart = sums[0] / count;
    const double squares = sums[1] - sums[0] * apart;
    p.to.mean[statistic] = static_cast<S>(origin(p, statistic) + apart);
    p.to.inverse_deviation[statistic] =
        static_cast<S>(1 / ::sqrt((squares > 0 ? squares : 0) / count + p.eps));
  }
};

template <class T>
struct NormApplyParams {
  NormPlan plan;
  InstanceNorm<T> norm;
};

template <class T, int kVector>
struct NormApply {
  using S = State<T>;
  using Params = NormApplyParams<T>;
  static constexpr int kMaxThreads = kNormThreads;
  static constexpr int kMinBlocks = 2;
  struct Shared {};
  struct Registers {
    NormThread<kVector> at;
  };

  template <class Block>
  SEGMAMBA_HD static void run(const Params& p, const Place& place, Block& block) {
    block.each_alone([&](int thread, Registers& r) {
      const InstanceNorm<T>& n = p.norm;
      r.at.start(p.plan, place, thread);
      if (!r.at.active) return;
      S mean[kVector], scale[kVector], shift[kVector], shortcut_mean[kVector],
          shortcut_scale[kVector], more[kVector];
      r.at.read(n.statistics.mean, S(0), mean);
      r.at.read(n.statistics.inverse_deviation, S(1), scale);
      r.at.read_weights(n.scaling.weight, S(1), more);
      r.at.read_weights(n.scaling.bias, S(0), shift);
      SEGMAMBA_UNROLL
      for (int j = 0; j < kVector; ++j) scale[j] *= more[j];
      const bool normalises = n.shortcut && n.normalises_shortcut;
      r.at.read(normalises ? n.shortcut_statistics.mean : nullptr, S(0), shortcut_mean);
      r.at.read(normalises ? n.shortcut_statistics.inverse_deviation : nullptr, S(1),
                shortcut_scale);
      r.at.read_weights(normalises ? n.shortcut_scaling.weight : nullptr, S(1), more);
      SEGMAMBA_UNROLL
      for (int j = 0; j < kVector; ++j) shortcut_scale[j] *= more[j];
      r.at.read_weights(normalises ? n.shortcut_scaling.bias : nullptr, S(0), more);
      SEGMAMBA_UNROLL
      for (int j = 0; j < kVector; ++j) shift[j] += more[j];

      for (std::int64_t i = r.at.begin; i < r.at.end; i += r.at.step) {
        S y[kVector], other[kVector];
        load_numbers<T, kVector>(n.x + i, y);
        SEGMAMBA_UNROLL
        for (int j = 0; j < kVector; ++j) y[j] = (y[j] - mean[j]) * scale[j] + shift[j];
        if (n.shortcut) {
          load_numbers<T, kVector>(n.shortcut + i, other);
          SEGMAMBA_UNROLL
          for (int j = 0; j < kVector; ++j) {
            y[j] += (other[j] - shortcut_mean[j]) * shortcut_scale[j];
          }
        }
        SEGMAMBA_UNROLL
        for (int j = 0; j < kVector; ++j) y[j] = y[j] > 0 ? y[j] : y[j] * n.slope;
        if (n.residual) {
          load_numbers<T, kVector>(n.residual + i, other);
          SEGMAMBA_UNROLL
          for (int j = 0; j < kVector; ++j) y[j] += other[j];
        }
        store_numbers<T, kVector>(y, n.out + i);
      }
    });
  }
};

template <class T>
struct NormGradientParams {
  NormPlan plan;
  InstanceNormBackward<T> norm;
  NormPartials<State<T>, 3> partials;
  // Of each channel of each item, over its voxels: sums of g, g y and g shortcut_y.
  State<T>* sums[3];
};

// The backward pass of a thread's numbers, row by row: the gradient before the activation and the
// normalised values.
template <class T, int kVector>
struct NormGradientThread {
  using S = State<T>;
  NormThread<kVector> at;
  S mean[kVector], scale[kVector], weight[kVector], shift[kVector];
  S shortcut_mean[kVector], shortcut_scale[kVector], shortcut_weight[kVector];
  S gradient[kVector], y[kVector], shortcut_y[kVector];

  SEGMAMBA_HD void start(const NormPlan& plan, const InstanceNormBackward<T>& n, const Place& place,
                         int thread) {
    at.start(plan, place, thread);
    if (!at.active) return;
    at.read(n.statistics.mean, S(0), mean);
    at.read(n.statistics.inverse_deviation, S(1), scale);
    at.read_weights(n.scaling.weight, S(1), weight);
    at.read_weights(n.scaling.bias, S(0), shift);
    const bool normalises = n.shortcut && n.normalises_shortcut;
    at.read_weights(normalises ? n.shortcut_scaling.bias : nullptr, S(0), shortcut_weight);
    SEGMAMBA_UNROLL
    for (int j = 0; j < kVector; ++j) {
      shift[j] += shortcut_weight[j];
      shortcut_y[j] = 0;
    }
    at.read(normalises ? n.shortcut_statistics.mean : nullptr, S(0), shortcut_mean);
    at.read(normalises ? n.shortcut_statistics.inverse_deviation : nullptr, S(1), shortcut_scale);
    at.read_weights(normalises ? n.shortcut_scaling.weight : nullptr, S(1), shortcut_weight);
  }

  SEGMAMBA_HD void load(const InstanceNormBackward<T>& n, std::int64_t i) {
    S before[kVector];
    load_numbers<T, kVector>(n.grad_out + i, gradient);
    if (n.shortcut) {
      load_numbers<T, kVector>(n.shortcut + i, shortcut_y);
      SEGMAMBA_UNROLL
      for (int j = 0; j < kVector; ++j) {
        shortcut_y[j] = (shortcut_y[j] - shortcut_mean[j]) * shortcut_scale[j];
      }
    }
    if (n.x) {
      load_numbers<T, kVector>(n.x + i, y);
      SEGMAMBA_UNROLL
      for (int j = 0; j < kVector; ++j) {
        y[j] = (y[j] - mean[j]) * scale[j];
        before[j] = y[j] * weight[j] + shift[j] + shortcut_y[j] * shortcut_weight[j];
      }
    } else {
      const S inverse_slope = 1 / n.slope;
      load_numbers<T, kVector>(n.out + i, before);
      SEGMAMBA_UNROLL
      for (int j = 0; j < kVector; ++j) {
        y[j] = (before[j] > 0 ? before[j] : before[j] * inverse_slope) -
               shortcut_y[j] * shortcut_weight[j];
      }
    }
    SEGMAMBA_UNROLL
    for (int j = 0; j < kVector; ++j) {
      gradient[j] = before[j] > 0 ? gradient[j] : gradient[j] * n.slope;
    }
  }
};

template <class T, int kVector>
struct NormGradientSums {
  using S = State<T>;
  using Params = NormGradientParams<T>;
  using Shared = NormSums<S, kVector, 3>;
  using Registers = NormGradientThread<T, kVector>;
  static constexpr int kMaxThreads = kNormThreads;
  static constexpr int kMinBlocks = 2;

  template <class Block>
  SEGMAMBA_HD static void run(const Params& p, const Place& place, Block& block) {
    block.each([&](int thread, Registers& r) {
      r.start(p.plan, p.norm, place, thread);
      if (!r.at.active) return;
      S sum[3][kVector] = {};
      for (std::int64_t i = r.at.begin; i < r.at.end; i += r.at.step) {
        r.load(p.norm, i);
        SEGMAMBA_UNROLL
        for (int j = 0; j < kVector; ++j) {
          sum[0][j] += r.gradient[j];
          sum[1][j] += r.gradient[j] * r.y[j];
          sum[2][j] += r.gradient[j] * r.shortcut_y[j];
        }
      }
      SEGMAMBA_UNROLL
      for (int i = 0; i < 3; ++i) {
        SEGMAMBA_UNROLL
        for (int j = 0; j < kVector; ++j) block.shared().sum[i][j][thread] = sum[i][j];
      }
    });
    add_up<kVector, 3>(block, p.plan, [&](Registers& r, const S(&sums)[3], int j) {
      p.partials.write(p.plan, r.at.statistic + j, place.segment, sums);
    });
  }
};

template <class T>
struct MergeGradients {
  using Params = NormGradientParams<T>;
  static constexpr int kSums = 3;

  SEGMAMBA_HD static void add(const Params& p, std::int64_t statistic, int segment,
                              double (&sums)[kSums]) {
    SEGMAMBA_UNROLL
    for (int i = 0; i < kSums; ++i) {
      sums[i] += p.partials.sum[i][statistic * p.plan.segments + segment];
    }
  }
  SEGMAMBA_HD static void write(const Params& p, std::int64_t statistic,
                                const double (&sums)[kSums]) {
    SEGMAMBA_UNROLL
    for (int i = 0; i < kSums; ++i) p.sums[i][statistic] = static_cast<State<T>>(sums[i]);
  }
};

// An item a channel: sums over the batch, in order.
template <class T>
struct NormWeightGradients {
  using S = State<T>;
  using Params = NormGradientParams<T>;
  SEGMAMBA_HD static void run(const Params& p, std::int64_t, int channel) {
    S* const to[3] = {p.norm.grad_bias, p.norm.grad_weight, p.norm.grad_shortcut_weight};
    SEGMAMBA_UNROLL
    for (int i = 0; i < 3; ++i) {
      if (to[i] == nullptr) continue;
      S sum = 0;
      for (std::int64_t item = 0; item < p.plan.shape.batch; ++item) {
        sum += p.sums[i][item * p.plan.shape.channels + channel];
      }
      to[i][channel] = sum;
    }
  }
};

template <class T, int kVector>
struct NormGradientApply {
  using S = State<T>;
  using Params = NormGradientParams<T>;
  using Registers = NormGradientThread<T, kVector>;
  struct Shared {};
  static constexpr int kMaxThreads = kNormThreads;
  static constexpr int kMinBlocks = 2;

  template <class Block>
  SEGMAMBA_HD static void run(const Params& p, const Place& place, Block& block) {
    block.each_alone([&](int thread, Registers& r) {
      const InstanceNormBackward<T>& n = p.norm;
      r.start(p.plan, n, place, thread);
      if (!r.at.active) return;
      const S share = S(1) / static_cast<S>(p.plan.shape.voxels);
      S mean[3][kVector];
      SEGMAMBA_UNROLL
      for (int i = 0; i < 3; ++i) {
        r.at.read(p.sums[i], S(0), mean[i]);
        SEGMAMBA_UNROLL
        for (int j = 0; j < kVector; ++j) mean[i][j] *= share;
      }
      const bool normalises = n.normalises_shortcut;
      for (std::int64_t i = r.at.begin; i < r.at.end; i += r.at.step) {
        r.load(n, i);
        S result[kVector];
        if (n.grad_x) {
          SEGMAMBA_UNROLL
          for (int j = 0; j < kVector; ++j) {
            result[j] =
                (r.gradient[j] - mean[0][j] - r.y[j] * mean[1][j]) * (r.weight[j] * r.scale[j]);
          }
          store_numbers<T, kVector>(result, n.grad_x + i);
        }
        if (n.grad_shortcut) {
          SEGMAMBA_UNROLL
          for (int j = 0; j < kVector; ++j) {
            result[j] = normalises ? (r.gradient[j] - mean[0][j] - r.shortcut_y[j] * mean[2][j]) *
                                         (r.shortcut_weight[j] * r.shortcut_scale[j])
                                   : r.gradient[j];
          }
          store_numbers<T, kVector>(result, n.grad_shortcut + i);
        }
      }
    });
  }
};

// Numbers of 16 bytes where rows and pointers allow, else one.
template <class T>
int numbers_a_load(const VolumeShape& s, std::initializer_list<const T*> pointers) {
  constexpr int kMost = 16 / static_cast<int>(sizeof(T));
  const auto row = s.channels_last ? s.channels : s.voxels;
  const bool fits = row % kMost == 0 && std::all_of(pointers.begin(), pointers.end(), [](auto* p) {
                      return reinterpret_cast<std::uintptr_t>(p) % 16 == 0;
                    });
  return fits ? kMost : 1;
}

// Numbers of the workspace of either pass.
template <class T>
std::size_t norm_workspace(const VolumeShape& s) {
  if (s.count() == 0) return 0;
  const int vector = numbers_a_load<T>(s, {});
  const int segments = std::max(NormPlan(s, 1).segments, NormPlan(s, vector).segments);
  return static_cast<std::size_t>(s.batch * s.channels) * 3 * (segments + 1);
}

// Statistics of `norm` are written, those of a shortcut as well where it is normalised.
template <class T, class Launcher>
void launch_norm_forward(const InstanceNorm<T>& norm, State<T>* workspace,
                         const Launcher& launcher) {
  const NormPlan plan(
      norm.shape, numbers_a_load<T>(norm.shape, {norm.x, norm.shortcut, norm.residual, norm.out}));
  const auto by_load = [&](const auto& body) {
    if (plan.vector > 1) {
      body(std::integral_constant<int, 16 / sizeof(T)>());
    } else {
      body(std::integral_constant<int, 1>());
    }
  };
  const NormPartials<State<T>, 2> partials{
      {workspace, workspace + plan.statistics() * plan.segments}};
  const Grid merge{1, 1, static_cast<int>(plan.statistics()), 0, kNormMergeThreads};
  const auto take_statistics = [&](const T* x, const NormStatistics<State<T>>& to) {
    by_load([&](auto vector) {
      launcher.template blocks<NormMoments<T, vector()>>({plan, x, partials}, plan.grid());
    });
    launcher.template blocks<NormMerge<MergeMoments<State<T>>>>({plan, partials, norm.eps, to},
                                                                merge);
  };
  take_statistics(norm.x, norm.statistics);
  if (norm.shortcut && norm.normalises_shortcut) {
    take_statistics(norm.shortcut, norm.shortcut_statistics);
  }
  by_load([&](auto vector) {
    launcher.template blocks<NormApply<T, vector()>>({plan, norm}, plan.grid());
  });
}

template <class T, class Launcher>
void launch_norm_backward(const InstanceNormBackward<T>& norm, State<T>* workspace,
                          const Launcher& launcher) {
  const NormPlan plan(norm.shape,
                      numbers_a_load<T>(norm.shape, {norm.grad_out, norm.x, norm.out, norm.shortcut,
                                                     norm.grad_x, norm.grad_shortcut}));
  NormGradientParams<T> p{plan, norm, {}, {}};
  const auto partial = plan.statistics() * plan.segments;
  for (int i = 0; i < 3; ++i) {
    p.partials.sum[i] = workspace + i * partial;
    p.sums[i] = workspace + 3 * partial + i * plan.statistics();
  }
  const auto by_load = [&](const auto& body) {
    if (plan.vector > 1) {
      body(std::integral_constant<int, 16 / sizeof(T)>());
    } else {
      body(std::integral_constant<int, 1>());
    }
  };
  by_load([&](auto vector) {
    launcher.template blocks<NormGradientSums<T, vector()>>(p, plan.grid());
  });
  launcher.template blocks<NormMerge<MergeGradients<T>>>(
      p, {1, 1, static_cast<int>(plan.statistics()), 0, kNormMergeThreads});
  if (norm.grad_bias || norm.grad_weight || norm.grad_shortcut_weight) {
    launcher.template items<NormWeightGradients<T>>(p, 1, static_cast<int>(norm.shape.channels));
  }
  if (!norm.grad_x && !norm.grad_shortcut) return;
  by_load([&](auto vector) {
    launcher.template blocks<NormGradientApply<T, vector()>>(p, plan.grid());
  });
}

}  // namespace segmamba::kernels
