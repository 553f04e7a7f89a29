#pragma once
// The CPU schedule of the selective scan, as far as forward and backward share it: which thread
// treats which chunk of which channels, and what passes between them. The inner loops are those of
// cpu_lanes.h.
//
// Channels are cut into blocks of W lanes, blocks into groups, and the L steps into chunks of
// kCpuChunk, chunks into segments. A unit of work is one group over one segment. With several
// segments a first pass scans each from a zero state, a carry joins their ends in order, and a
// second pass scans each again from its true start. What sums depend on - segments, and the groups
// of the backward - follows from the shape alone, never from the number of threads, so that neither
// do the results.

#include <algorithm>
#include <utility>

#include "aligned_vector.h"
#include "cpu_lanes.h"
#include "selective_scan_math.cuh"

namespace segmamba::kernels {

// Units that keep a small machine busy to the end.
inline constexpr int kWantedUnits = 6;
// Every group but the first keeps its own dB and dC, and the fewer blocks it has, the shorter the
// pieces of rows that it reads.
inline constexpr int kMostGroups = 2;
// A segment costs a second pass, so it should be long enough to be worth a thread.
inline constexpr int kMinSegmentChunks = 4;
// The checkpoint layout is [K, B, chunks, blocks, P, W]; this rounding holds for every W.
inline constexpr int kWidestLanes = 16;
// Below this many state updates, threads cost more than they bring.
inline constexpr std::int64_t kMinThreadedWork = 1 << 18;

struct Range {
  int begin, end;
};

// Part i of [0, count) cut into `parts` parts that differ by one at most.
inline Range part_of(int count, int parts, int i) {
  return {static_cast<int>(static_cast<std::int64_t>(count) * i / parts),
          static_cast<int>(static_cast<std::int64_t>(count) * (i + 1) / parts)};
}

inline Workers usable_workers(const ScanShape& s, const Workers& workers) {
  const std::int64_t work =
      static_cast<std::int64_t>(s.directions) * s.batch * s.length * s.channels * s.states;
  return work < kMinThreadedWork ? Workers(1) : workers;
}

// How a shape is cut, and where its pieces lie in the buffers that pass between them.
struct Layout {
  Layout(const ScanShape& shape, int width)
      : s(shape),
        width(width),
        blocks(divide_up(s.channels, width)),
        chunks(divide_up(s.length, kCpuChunk)),
        states(padded_states(s)),
        state_size(static_cast<std::int64_t>(states) * width) {}

  static int padded_states(const ScanShape& s) {
    return divide_up(s.states, kStateGroup) * kStateGroup;
  }
  // Segments so that `sequences` of them give enough units.
  int segments_for(std::int64_t sequences) const {
    const int wanted = divide_up(kWantedUnits, sequences);
    return std::clamp(wanted, 1, std::max(1, chunks / kMinSegmentChunks));
  }
  std::int64_t block_of(int k, int block) const {
    return static_cast<std::int64_t>(k) * blocks + block;
  }
  std::int64_t checkpoint(int k, int b, int chunk, int block) const {
    return (((static_cast<std::int64_t>(k) * s.batch + b) * chunks + chunk) * blocks + block) *
           state_size;
  }

  ScanShape s;
  int width, blocks, chunks;
  int states;  // P
  std::int64_t state_size;
};

// A, D and delta_bias in lane order, blocks of all directions one after another.
template <class S>
struct LaneParameters {
  template <class T>
  LaneParameters(const ScanInputs<T>& in, const Layout& layout)
      : a_log2e(layout.s.directions * layout.blocks * layout.state_size),
        skip(static_cast<std::size_t>(layout.s.directions) * layout.blocks * layout.width),
        bias(skip.size()) {
    const ScanShape& s = in.shape;
    for (int k = 0; k < s.directions; ++k) {
      for (int d = 0; d < s.channels; ++d) {
        const std::int64_t block = layout.block_of(k, d / layout.width);
        const int lane = d % layout.width;
        const std::int64_t channel = static_cast<std::int64_t>(k) * s.channels + d;
        for (int n = 0; n < s.states; ++n) {
          a_log2e[block * layout.state_size + n * layout.width + lane] =
              in.A[channel * s.states + n] * static_cast<S>(kLog2e);
        }
        if (in.D) skip[block * layout.width + lane] = in.D[channel];
        if (in.delta_bias) bias[block * layout.width + lane] = in.delta_bias[channel];
      }
    }
  }
  AlignedVector<S> a_log2e, skip, bias;
};

// The tokens of steps [begin, begin + count), by counting instead of dividing.
inline void list_tokens(const ScanMap& map, int begin, int count, std::int32_t* to) {
  const int start = map.reversed ? map.length - 1 - begin : begin;
  std::int32_t at[3] = {start / map.extent[2] / map.extent[1],
                        start / map.extent[2] % map.extent[1], start % map.extent[2]};
  const int way = map.reversed ? -1 : 1;
  for (int i = 0; i < count; ++i) {
    to[i] = at[0] * map.stride[0] + at[1] * map.stride[1] + at[2] * map.stride[2];
    at[2] += way;
    for (int digit = 2; digit > 0 && (at[digit] < 0 || at[digit] == map.extent[digit]); --digit) {
      at[digit] = map.reversed ? map.extent[digit] - 1 : 0;
      at[digit - 1] += way;
    }
  }
}

// Walks the chunks of one sequence, with what all blocks of a chunk share worked out once: its
// path, and its rows of B and C.
template <class T>
class ChunkCursor {
 public:
  using S = State<T>;
  ChunkCursor(const ScanInputs<T>& in, const Layout& layout, const LaneParameters<S>& parameters,
              const CpuLanes<T>& lanes, int k, int b)
      : in_(in),
        layout_(layout),
        parameters_(parameters),
        lanes_(lanes),
        B_(static_cast<std::size_t>(kCpuChunk) * layout.states),
        C_(B_.size()) {
    chunk_.direction = k;
    chunk_.batch = b;
    chunk_.states = layout.states;
    chunk_.B = B_.data();
    chunk_.C = C_.data();
    chunk_.ahead_token = ahead_token_;
    chunk_.ahead_channel = ahead_channel_;
  }
  // Calls body() at every chunk from `first` to `last`, which may be the smaller.
  template <class Body>
  void walk(int first, int last, const Body& body) {
    const int way = first <= last ? 1 : -1;
    list(first, ahead_);
    for (int chunk = first; chunk != last + way; chunk += way) {
      std::swap(tokens_, ahead_);
      list(chunk == last ? chunk : chunk + way, ahead_);
      chunk_.tokens = tokens_;
      chunk_.steps = steps_of(chunk);
      stage(in_.B, B_);
      stage(in_.C, C_);
      body(chunk);
    }
  }
  // One of the blocks that are treated at each chunk, in order.
  const ScanChunk<T>& block(int block, const Range& blocks) {
    const std::int64_t at = layout_.block_of(chunk_.direction, block);
    chunk_.channel = block * layout_.width;
    chunk_.a_log2e = &parameters_.a_log2e[at * layout_.state_size];
    chunk_.skip = &parameters_.skip[at * layout_.width];
    chunk_.bias = &parameters_.bias[at * layout_.width];
    look_ahead(block, blocks);
    return chunk_;
  }
  const std::int32_t* tokens() const { return tokens_; }
  int steps() const { return chunk_.steps; }

 private:
  int steps_of(int chunk) const {
    return std::min(kCpuChunk, layout_.s.length - chunk * kCpuChunk);
  }
  void list(int chunk, std::int32_t* to) const {
    const int steps = steps_of(chunk);
    list_tokens(in_.maps[chunk_.direction], chunk * kCpuChunk, steps, to);
    std::fill(to + steps, to + kCpuChunk, to[steps - 1]);
  }
  // Short rows of the next chunk are prefetched whole, one after another, which the processor's own
  // prefetcher sees and runs ahead of. A chunk of long rows would not fit into a cache; of these it
  // is the next block.
  void look_ahead(int block, const Range& blocks) {
    constexpr int kShortRow = 8;
    const int count = blocks.end - blocks.begin, from = block - blocks.begin;
    const int next = (from + 1) % count;
    for (int i = 0; i < kCpuChunk; ++i) {
      const int vector = from * kCpuChunk + i;
      ahead_token_[i] = count <= kShortRow ? ahead_[vector / count]
                        : next == 0        ? ahead_[i]
                                           : tokens_[i];
      ahead_channel_[i] = ((count <= kShortRow ? vector % count : next) - from) * layout_.width;
    }
  }
  void stage(const Rows<const T>& rows, AlignedVector<S>& to) const {
    const T* const from = rows.row(chunk_.direction, chunk_.batch, 0);
    for (int i = 0; i < chunk_.steps; ++i) {
      lanes_.to_state(from + static_cast<std::int64_t>(tokens_[i]) * rows.token,
                      &to[static_cast<std::size_t>(i) * layout_.states], layout_.s.states);
    }
    std::fill(to.begin() + static_cast<std::int64_t>(chunk_.steps) * layout_.states, to.end(),
              S(0));
  }

  const ScanInputs<T>& in_;
  const Layout& layout_;
  const LaneParameters<S>& parameters_;
  const CpuLanes<T>& lanes_;
  AlignedVector<S> B_, C_;  // [kCpuChunk, P]
  std::int32_t paths_[2][kCpuChunk];
  std::int32_t *tokens_ = paths_[0], *ahead_ = paths_[1];
  std::int32_t ahead_token_[kCpuChunk], ahead_channel_[kCpuChunk];
  ScanChunk<T> chunk_{};
};

// state <- exp(A delta_sum) state + end: over a whole segment that ended with `end` when started
// from zero. The adjoint crosses a segment by the same rule.
template <class S>
void carry_over(const Layout& layout, const S* a_log2e, const S* delta_sum, const S* end,
                S* state) {
  for (int n = 0; n < layout.s.states; ++n) {
    for (int i = 0; i < layout.width; ++i) {
      const int at = n * layout.width + i;
      state[at] = decay_of(delta_sum[i], a_log2e[at]) * state[at] + end[at];
    }
  }
}

}  // namespace segmamba::kernels
