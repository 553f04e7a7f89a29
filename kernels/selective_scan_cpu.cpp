// The CPU schedule of the selective scan: which thread treats which chunk of which channels, and
// what passes between them. The inner loops are those of cpu_lanes.h.
//
// Channels are cut into blocks of W lanes, blocks into groups, and the L steps into chunks of
// kCpuChunk, chunks into segments. A unit of work is one group over one segment. With several
// segments a first pass scans each from a zero state, a carry joins their ends in order, and a
// second pass scans each again from its true start. What sums depend on - segments, and the groups
// of the backward - follows from the shape alone, never from the number of threads, so that neither
// do the results.

#include "selective_scan.h"

#include <algorithm>
#include <cmath>
#include <type_traits>
#include <utility>

#include "aligned_vector.h"
#include "cpu_lanes.h"
#include "segmamba/core/parallel.h"
#include "selective_scan_math.cuh"

namespace segmamba::kernels {
namespace {

// Units that keep a small machine busy to the end.
constexpr int kWantedUnits = 6;
// Every group but the first keeps its own dB and dC, and the fewer blocks it has, the shorter the
// pieces of rows that it reads.
constexpr int kMostGroups = 2;
// A segment costs a second pass, so it should be long enough to be worth a thread.
constexpr int kMinSegmentChunks = 4;
// The checkpoint layout is [K, B, chunks, blocks, P, W]; this rounding holds for every W.
constexpr int kWidestLanes = 16;
// Below this many state updates, threads cost more than they bring.
constexpr std::int64_t kMinThreadedWork = 1 << 18;

int divide_up(std::int64_t a, std::int64_t b) { return static_cast<int>((a + b - 1) / b); }

struct Range {
  int begin, end;
};

// Part i of [0, count) cut into `parts` parts that differ by one at most.
Range part_of(int count, int parts, int i) {
  return {static_cast<int>(static_cast<std::int64_t>(count) * i / parts),
          static_cast<int>(static_cast<std::int64_t>(count) * (i + 1) / parts)};
}

int usable_threads(const ScanShape& s, int threads) {
  const std::int64_t work =
      static_cast<std::int64_t>(s.directions) * s.batch * s.length * s.channels * s.states;
  return work < kMinThreadedWork ? 1 : std::max(threads, 1);
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
void list_tokens(const ScanMap& map, int begin, int count, std::int32_t* to) {
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

template <class T>
class Forward {
  using S = State<T>;

 public:
  Forward(const ScanInputs<T>& in, const ScanOutputs<T>& out, int threads)
      : in_(in),
        out_(out),
        threads_(usable_threads(in.shape, threads)),
        lanes_(cpu_lanes<T>()),
        layout_(in.shape, lanes_.width),
        parameters_(in, layout_),
        segments_(layout_.segments_for(static_cast<std::int64_t>(in.shape.batch) * layout_.blocks)),
        groups_(
            std::min(layout_.blocks,
                     divide_up(threads_, static_cast<std::int64_t>(in.shape.batch) * segments_))),
        state_(static_cast<std::size_t>(in.shape.batch) * layout_.blocks * segments_ *
               layout_.state_size),
        delta_sum_(static_cast<std::size_t>(in.shape.batch) * layout_.blocks * segments_ *
                   layout_.width) {
    sum_ = out.ungated;
    if (sum_ || in.shape.directions == 1) return;
    if constexpr (std::is_same_v<T, S>) {
      sum_ = out.out;
    } else {
      own_sum_ = AlignedBuffer<S>(static_cast<std::size_t>(in.shape.batch) * in.shape.length *
                                  in.shape.channels);
      sum_ = own_sum_.data();
    }
  }

  // Directions one after another, since each adds to the sum of those before it.
  void run() {
    const std::int64_t sequences = static_cast<std::int64_t>(in_.shape.batch) * layout_.blocks;
    for (int k = 0; k < in_.shape.directions; ++k) {
      std::fill(state_.begin(), state_.end(), S(0));
      if (segments_ > 1) {
        std::fill(delta_sum_.begin(), delta_sum_.end(), S(0));
        for_each_unit(segments_ - 1,
                      [&](int b, Range blocks, int segment) { find_ends(k, b, blocks, segment); });
        for (std::int64_t sequence = 0; sequence < sequences; ++sequence) carry(k, sequence);
      }
      for_each_unit(segments_,
                    [&](int b, Range blocks, int segment) { scan(k, b, blocks, segment); });
    }
  }

 private:
  std::int64_t sequence_of(int b, int block) const {
    return static_cast<std::int64_t>(b) * layout_.blocks + block;
  }
  S* state(std::int64_t sequence, std::int64_t segment) {
    return &state_[(sequence * segments_ + segment) * layout_.state_size];
  }
  S* delta_sum(std::int64_t sequence, std::int64_t segment) {
    return &delta_sum_[(sequence * segments_ + segment) * layout_.width];
  }
  ChunkCursor<T> cursor(int k, int b) const { return {in_, layout_, parameters_, lanes_, k, b}; }

  // Blocks of channels do not meet in the forward, so that their groups may follow the threads: the
  // fewer there are, the longer the pieces of rows that each reads.
  template <class Body>
  void for_each_unit(int segments, const Body& body) {
    parallel_for(
        static_cast<std::int64_t>(in_.shape.batch) * groups_ * segments,
        [&](std::int64_t i) {
          const int segment = static_cast<int>(i % segments);
          const int group = static_cast<int>(i / segments % groups_);
          body(static_cast<int>(i / segments / groups_), part_of(layout_.blocks, groups_, group),
               segment);
        },
        threads_);
  }

  void find_ends(int k, int b, Range blocks, int segment) {
    auto at = cursor(k, b);
    const Range range = part_of(layout_.chunks, segments_, segment);
    at.walk(range.begin, range.end - 1, [&](int) {
      for (int block = blocks.begin; block < blocks.end; ++block) {
        lanes_.scan_state(in_, at.block(block, blocks), state(sequence_of(b, block), segment),
                          delta_sum(sequence_of(b, block), segment));
      }
    });
  }

  // Turns the ends of segments into the starts of those that follow.
  void carry(int k, std::int64_t sequence) {
    const std::int64_t block = layout_.block_of(k, static_cast<int>(sequence % layout_.blocks));
    AlignedVector<S> start(layout_.state_size), end(layout_.state_size);
    for (int segment = 0; segment < segments_; ++segment) {
      std::copy_n(state(sequence, segment), layout_.state_size, end.begin());
      std::copy_n(start.begin(), layout_.state_size, state(sequence, segment));
      carry_over(layout_, &parameters_.a_log2e[block * layout_.state_size],
                 delta_sum(sequence, segment), end.data(), start.data());
    }
  }

  void scan(int k, int b, Range blocks, int segment) {
    auto at = cursor(k, b);
    const Range range = part_of(layout_.chunks, segments_, segment);
    at.walk(range.begin, range.end - 1, [&](int chunk) {
      for (int block = blocks.begin; block < blocks.end; ++block) {
        S* const h = state(sequence_of(b, block), segment);
        if (out_.checkpoints) {
          std::copy_n(h, layout_.state_size,
                      out_.checkpoints + layout_.checkpoint(k, b, chunk, block));
        }
        lanes_.scan_forward(in_, out_, at.block(block, blocks), sum_, h);
      }
    });
  }

  const ScanInputs<T>& in_;
  const ScanOutputs<T>& out_;
  int threads_;
  const CpuLanes<T>& lanes_;
  Layout layout_;
  LaneParameters<S> parameters_;
  int segments_, groups_;
  AlignedVector<S> state_, delta_sum_;  // [B * blocks, segments, P, W], [B * blocks, segments, W]
  AlignedBuffer<S> own_sum_;            // [B, L, D], where 16-bit outputs cannot hold the sum
  S* sum_;
};

template <class T>
class Backward {
  using S = State<T>;

 public:
  Backward(const ScanInputs<T>& in, const ScanGradients<T>& grad, int threads)
      : in_(in),
        grad_(grad),
        threads_(usable_threads(in.shape, threads)),
        lanes_(cpu_lanes<T>()),
        layout_(in.shape, lanes_.width),
        parameters_(in, layout_),
        sequences_(in.shape.directions * in.shape.batch),
        groups_(std::min({layout_.blocks, divide_up(kWantedUnits, sequences_), kMostGroups})),
        segments_(layout_.segments_for(static_cast<std::int64_t>(sequences_) * groups_)),
        g_(pieces() * layout_.state_size),
        dA_(pieces() * layout_.state_size),
        delta_sum_(pieces() * layout_.width),
        dD_(delta_sum_.size()),
        dbias_(delta_sum_.size()) {
    if (groups_ == 1) return;
    dB_ = AlignedBuffer<S>((groups_ - kFirstKept) * group_size());
    dC_ = AlignedBuffer<S>((groups_ - kFirstKept) * group_size());
  }

  void run() {
    if (segments_ > 1) {
      for_each_unit([&](int sequence, int group, int segment) {
        if (segment > 0) find_adjoint(sequence, group, segment);
      });
      for (int sequence = 0; sequence < sequences_; ++sequence) {
        for (int block = 0; block < layout_.blocks; ++block) carry(sequence, block);
      }
    }
    for_each_unit(
        [&](int sequence, int group, int segment) { differentiate(sequence, group, segment); });
    add_groups();
    for (int k = 0; k < in_.shape.directions; ++k) add_segments(k);
  }

 private:
  // The first group whose dB and dC wait beside the result where there are several.
  static constexpr int kFirstKept = std::is_same_v<T, S> ? 1 : 0;

  std::size_t pieces() const {
    return static_cast<std::size_t>(sequences_) * layout_.blocks * segments_;
  }
  std::size_t piece(int sequence, int block, int segment) const {
    return (static_cast<std::size_t>(sequence) * layout_.blocks + block) * segments_ + segment;
  }
  int direction_of(int sequence) const { return sequence / in_.shape.batch; }
  ChunkCursor<T> cursor(int sequence) const {
    return {in_, layout_, parameters_, lanes_, direction_of(sequence), sequence % in_.shape.batch};
  }

  template <class Body>
  void for_each_unit(const Body& body) {
    parallel_for(
        static_cast<std::int64_t>(sequences_) * groups_ * segments_,
        [&](std::int64_t i) {
          const int segment = static_cast<int>(i % segments_);
          const int group = static_cast<int>(i / segments_ % groups_);
          body(static_cast<int>(i / segments_ / groups_), group, segment);
        },
        threads_);
  }

  void find_adjoint(int sequence, int group, int segment) {
    auto at = cursor(sequence);
    const Range blocks = part_of(layout_.blocks, groups_, group);
    const Range range = part_of(layout_.chunks, segments_, segment);
    at.walk(range.end - 1, range.begin, [&](int) {
      for (int block = blocks.begin; block < blocks.end; ++block) {
        const std::size_t i = piece(sequence, block, segment);
        lanes_.scan_adjoint(in_, grad_, at.block(block, blocks), &g_[i * layout_.state_size],
                            &delta_sum_[i * layout_.width]);
      }
    });
  }

  // Turns what each segment passes back into what the segment before it receives.
  void carry(int sequence, int block) {
    const std::int64_t parameters = layout_.block_of(direction_of(sequence), block);
    AlignedVector<S> received(layout_.state_size), passed(layout_.state_size);
    for (int segment = segments_ - 1; segment >= 0; --segment) {
      const std::size_t i = piece(sequence, block, segment);
      S* const g = &g_[i * layout_.state_size];
      std::copy_n(g, layout_.state_size, passed.begin());
      std::copy_n(received.begin(), layout_.state_size, g);
      carry_over(layout_, &parameters_.a_log2e[parameters * layout_.state_size],
                 &delta_sum_[i * layout_.width], passed.data(), received.data());
    }
  }

  void differentiate(int sequence, int group, int segment) {
    const int k = direction_of(sequence), b = sequence % in_.shape.batch;
    auto at = cursor(sequence);
    const Range blocks = part_of(layout_.blocks, groups_, group);
    const Range range = part_of(layout_.chunks, segments_, segment);
    AlignedVector<S> dB(static_cast<std::size_t>(kCpuChunk) * layout_.states), dC(dB.size());
    at.walk(range.end - 1, range.begin, [&](int chunk) {
      for (int block = blocks.begin; block < blocks.end; ++block) {
        const std::size_t i = piece(sequence, block, segment);
        lanes_.scan_backward(in_, grad_, at.block(block, blocks),
                             grad_.checkpoints + layout_.checkpoint(k, b, chunk, block),
                             &g_[i * layout_.state_size], &dA_[i * layout_.state_size],
                             &dD_[i * layout_.width], &dbias_[i * layout_.width], dB.data(),
                             dC.data(), block == blocks.begin);
      }
      store_rows(sequence, group, at, dB.data(), grad_.B, dB_.data());
      store_rows(sequence, group, at, dC.data(), grad_.C, dC_.data());
    });
  }

  // A chunk's rows of dB or dC: to the result where there is one group, or where it is the first
  // and the result can hold it unrounded; else beside it.
  void store_rows(int sequence, int group, const ChunkCursor<T>& at, const S* sums, T* result,
                  S* kept) {
    const int states = in_.shape.states, tile = lanes_.tile_steps;
    for (int i = 0; i < at.steps(); ++i) {
      S row[kMaxStates];
      const S* const groups = sums + static_cast<std::int64_t>(i / tile) * tile * layout_.states +
                              static_cast<std::int64_t>(i % tile) * kStateGroup;
      for (int n = 0; n < layout_.states; n += kStateGroup) {
        std::copy_n(groups + static_cast<std::int64_t>(n) * tile, kStateGroup, row + n);
      }
      const std::int64_t to =
          (static_cast<std::int64_t>(sequence) * in_.shape.length + at.tokens()[i]) * states;
      if (groups_ == 1 || group < kFirstKept) {
        lanes_.from_state(row, result + to, states);
      } else {
        std::copy_n(row, states, kept + (group - kFirstKept) * group_size() + to);
      }
    }
  }

  std::int64_t group_size() const {
    return static_cast<std::int64_t>(sequences_) * in_.shape.length * in_.shape.states;
  }

  void add_groups() {
    if (groups_ == 1) return;
    constexpr std::int64_t kPiece = 1 << 12;
    parallel_for(
        divide_up(group_size(), kPiece),
        [&](std::int64_t i) {
          const std::int64_t begin = i * kPiece;
          const int count = static_cast<int>(std::min(kPiece, group_size() - begin));
          add_groups(grad_.B + begin, dB_.data() + begin, count);
          add_groups(grad_.C + begin, dC_.data() + begin, count);
        },
        threads_);
  }
  void add_groups(T* result, S* kept, int count) const {
    for (int group = 1; group < groups_; ++group) {
      const S* const other = kept + (group - kFirstKept) * group_size();
      if constexpr (kFirstKept == 1) {
        for (int i = 0; i < count; ++i) result[i] += other[i];
      } else {
        for (int i = 0; i < count; ++i) kept[i] += other[i];
      }
    }
    if (kFirstKept == 0) lanes_.from_state(kept, result, count);
  }

  // Sums over batch items and segments, in order.
  void add_segments(int k) {
    const ScanShape& s = in_.shape;
    for (int d = 0; d < s.channels; ++d) {
      const int block = d / layout_.width, lane = d % layout_.width;
      const std::int64_t channel = static_cast<std::int64_t>(k) * s.channels + d;
      const auto sum = [&](const AlignedVector<S>& parts, std::int64_t stride,
                           std::int64_t offset) {
        S total = 0;
        for (int b = 0; b < s.batch; ++b) {
          for (int segment = 0; segment < segments_; ++segment) {
            total += parts[piece(k * s.batch + b, block, segment) * stride + offset];
          }
        }
        return total;
      };
      for (int n = 0; n < s.states; ++n) {
        grad_.A[channel * s.states + n] =
            sum(dA_, layout_.state_size, static_cast<std::int64_t>(n) * layout_.width + lane);
      }
      if (grad_.D) grad_.D[channel] = sum(dD_, layout_.width, lane);
      if (grad_.delta_bias) grad_.delta_bias[channel] = sum(dbias_, layout_.width, lane);
    }
  }

  const ScanInputs<T>& in_;
  const ScanGradients<T>& grad_;
  int threads_;
  const CpuLanes<T>& lanes_;
  Layout layout_;
  LaneParameters<S> parameters_;
  int sequences_;  // K * B
  int groups_, segments_;
  AlignedVector<S> g_, dA_;                  // [K * B, blocks, segments, P, W]
  AlignedVector<S> delta_sum_, dD_, dbias_;  // [K * B, blocks, segments, W]
  AlignedBuffer<S> dB_, dC_;                 // [groups - kFirstKept, K * B, L, N]
};

}  // namespace

std::size_t scan_checkpoint_count_cpu(const ScanShape& s) {
  return static_cast<std::size_t>(s.directions) * s.batch * divide_up(s.length, kCpuChunk) *
         Layout::padded_states(s) * divide_up(s.channels, kWidestLanes) * kWidestLanes;
}

template <class T>
void selective_scan_forward_cpu(const ScanInputs<T>& in, const ScanOutputs<T>& out, int threads) {
  if (in.shape.batch > 0 && in.shape.length > 0) Forward<T>(in, out, threads).run();
}

template <class T>
void selective_scan_backward_cpu(const ScanInputs<T>& in, const ScanGradients<T>& grad,
                                 int threads) {
  if (in.shape.batch > 0 && in.shape.length > 0) Backward<T>(in, grad, threads).run();
}

template void selective_scan_forward_cpu(const ScanInputs<float>&, const ScanOutputs<float>&, int);
template void selective_scan_backward_cpu(const ScanInputs<float>&, const ScanGradients<float>&,
                                          int);
template void selective_scan_forward_cpu(const ScanInputs<double>&, const ScanOutputs<double>&,
                                         int);
template void selective_scan_backward_cpu(const ScanInputs<double>&, const ScanGradients<double>&,
                                          int);
template void selective_scan_forward_cpu(const ScanInputs<BFloat16>&, const ScanOutputs<BFloat16>&,
                                         int);
template void selective_scan_backward_cpu(const ScanInputs<BFloat16>&,
                                          const ScanGradients<BFloat16>&, int);
template void selective_scan_forward_cpu(const ScanInputs<Float16>&, const ScanOutputs<Float16>&,
                                         int);
template void selective_scan_backward_cpu(const ScanInputs<Float16>&, const ScanGradients<Float16>&,
                                          int);

}  // namespace segmamba::kernels
