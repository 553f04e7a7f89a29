#pragma once
// The selective scan on the GPU as kernels (see cuda_blocks.h).
//
// The steps of a sequence are cut into segments, whose number follows from how many blocks fill the
// GPU (selective_scan_tuning.h), and segments into chunks of kCudaChunk steps.
//   forward:  SegmentEnd (each segment from a zero state) -> Carry -> SegmentScan, which leaves the
//             state at the start of every chunk for the backward
//   backward: GateGradient; SegmentAdjoint -> Carry (backwards) -> SegmentBackward -> the sums
// With one segment there is nothing to carry and the first two steps are left out. More than
// kSliceStates states are scanned slice by slice, as if each slice were a direction of its own.
//
// Nothing is added atomically: what several blocks contribute to is written apart and summed in
// order.

#include "cuda_blocks.h"
#include "selective_scan_math.cuh"
#include "selective_scan_tuning.h"

namespace segmamba::kernels {

// States of one launch; those beyond N are zero and stay so.
inline constexpr int kSliceStates = 16;

// Channels of one block at most, one a thread. float64, which only checks gradients, takes one warp
// for the sake of shared memory.
template <class S>
inline constexpr int kBlockChannels = sizeof(S) == 8 ? kWarp : 4 * kWarp;

// How a shape is cut.
struct ScanPlan {
  ScanPlan(const ScanShape& s, int fill, int block_channels, std::int64_t largest_apart)
      : chunks(divide_up(s.length, kCudaChunk)),
        tiles(divide_up(s.channels, block_channels)),
        threads(divide_up(divide_up(s.channels, tiles), kWarp) * kWarp),
        slices(divide_up(s.states, kSliceStates)) {
    // A second pass over the steps has to be worth more than twice the blocks.
    const std::int64_t without = static_cast<std::int64_t>(s.directions) * s.batch * tiles;
    const std::int64_t wanted = fill / without;
    segment_chunks = wanted < 2 ? chunks : divide_up(chunks, wanted);
    segments = divide_up(chunks, segment_chunks);
    const std::int64_t numbers =
        static_cast<std::int64_t>(s.directions) * slices * s.batch * s.length * s.channels;
    apart = s.directions * slices > 1 && numbers <= largest_apart;
  }
  int chunks, tiles, threads, slices;
  int segment_chunks, segments;
  bool apart;  // the sum over directions by way of a buffer for each

  Grid grid(const ScanShape& s) const {
    return {segments, tiles, s.directions * s.batch, 0, threads};
  }
};

template <class T>
struct DeviceScan {
  DeviceScan(const ScanInputs<T>& inputs, const ScanPlan& plan)
      : in(inputs), segments(plan.segments), segment_chunks(plan.segment_chunks) {
    for (int k = 0; k < in.shape.directions; ++k) maps[k] = inputs.maps[k];
  }
  void set_slice(int slice) {
    first_state = slice * kSliceStates;
    const int left = in.shape.states - first_state;
    states = left < kSliceStates ? left : kSliceStates;
  }
  ScanInputs<T> in;  // in.maps is not used on the device
  ScanMap maps[kMaxDirections];
  int segments, segment_chunks;
  int first_state = 0, states = 0;  // of the slice

  SEGMAMBA_HD const ScanShape& shape() const { return in.shape; }
  SEGMAMBA_HD int chunks() const { return divide_up(in.shape.length, kCudaChunk); }
  SEGMAMBA_HD int first_chunk(const Place& place) const { return place.segment * segment_chunks; }
  SEGMAMBA_HD int last_chunk(const Place& place) const {
    const int end = (place.segment + 1) * segment_chunks;
    return (end < chunks() ? end : chunks()) - 1;
  }
  SEGMAMBA_HD int chunk_steps(int chunk) const {
    const int left = in.shape.length - chunk * kCudaChunk;
    return left < kCudaChunk ? left : kCudaChunk;
  }
  // Element (n of the slice, d) of buffers [K, B, segments, N, D] and [K, B, chunks, N, D], and
  // element d of [K, B, segments, D].
  SEGMAMBA_HD std::int64_t segment_state(const Place& place, int n, int d) const {
    return (segment_row(place) * in.shape.states + first_state + n) * in.shape.channels + d;
  }
  SEGMAMBA_HD std::int64_t chunk_state(const Place& place, int chunk, int n, int d) const {
    const std::int64_t row = static_cast<std::int64_t>(place.sequence) * chunks() + chunk;
    return (row * in.shape.states + first_state + n) * in.shape.channels + d;
  }
  SEGMAMBA_HD std::int64_t segment_channel(const Place& place, int d) const {
    return segment_row(place) * in.shape.channels + d;
  }

 private:
  SEGMAMBA_HD std::int64_t segment_row(const Place& place) const {
    return static_cast<std::int64_t>(place.sequence) * segments + place.segment;
  }
};

SEGMAMBA_HD std::int64_t token_row(const ScanShape& s, int sequence, std::int32_t token) {
  return static_cast<std::int64_t>(sequence) * s.length + token;
}

// Row `token` of rows that lie `stride` numbers apart: one multiplication of 32 by 32 bits.
template <class T>
SEGMAMBA_HD T* row_at(T* base, std::int32_t token, std::int32_t stride) {
  return base + static_cast<std::int64_t>(token) * stride;
}

// What a thread knows of its channel. One beyond the last (not active) reads what the last one
// reads, so that loads need no branches, and stores nothing.
template <class T>
struct Channel {
  using S = State<T>;
  bool active;
  int k, b, d;
  S bias, skip;

  SEGMAMBA_HD void begin(const DeviceScan<T>& p, const Place& place, int thread, int threads) {
    const ScanShape& s = p.shape();
    k = place.sequence / s.batch;
    b = place.sequence % s.batch;
    d = place.tile * threads + thread;
    active = d < s.channels;
    if (!active) d = s.channels - 1;
    const std::int64_t channel = static_cast<std::int64_t>(k) * s.channels + d;
    bias = p.in.delta_bias ? p.in.delta_bias[channel] : S(0);
    skip = p.in.D && p.first_state == 0 ? p.in.D[channel] : S(0);
  }
  // The channel in the sequence's rows, and in a buffer [B, L, D].
  SEGMAMBA_HD const T* rows(const Rows<const T>& from) const { return from.row(k, b, 0) + d; }
  SEGMAMBA_HD std::int64_t output(const ScanShape& s) const {
    return static_cast<std::int64_t>(b) * s.length * s.channels + d;
  }
};

// raw -> delta, for the `count` steps of a tile; zero beyond, which leaves states and gradients as
// they are. One branch for all of them.
template <class T, class S, int kSteps>
SEGMAMBA_HD void delta_of_tile(const DeviceScan<T>& p, S bias, int count, S (&raw)[kSteps]) {
  SEGMAMBA_UNROLL
  for (int i = 0; i < kSteps; ++i) raw[i] += bias;
  if (p.in.delta_softplus) {
    SEGMAMBA_UNROLL
    for (int i = 0; i < kSteps; ++i) raw[i] = softplus(raw[i]);
  }
  SEGMAMBA_UNROLL
  for (int i = 0; i < kSteps; ++i) raw[i] = i < count ? raw[i] : S(0);
}

template <class T>
SEGMAMBA_HD State<T> load_a_log2e(const DeviceScan<T>& p, int k, int n, int d) {
  const ScanShape& s = p.shape();
  if (n >= p.states || d >= s.channels) return 0;
  const std::int64_t channel = static_cast<std::int64_t>(k) * s.channels + d;
  return p.in.A[channel * s.states + p.first_state + n] * static_cast<State<T>>(kLog2e);
}

// Four numbers that are read together.
template <class S>
struct alignas(4 * sizeof(S)) Four {
  S v[4];
};
inline constexpr int kFours = kSliceStates / 4;

// `count` rows of B or of C for all threads of a block; zeros in the rest.
template <int kRows, class T, class S>
SEGMAMBA_HD void stage_rows(const DeviceScan<T>& p, const Rows<const T>& rows, const Channel<T>& c,
                            const std::int32_t* token, int thread, int threads, int count,
                            Four<S> (&to)[kRows][kFours]) {
  const T* const base = rows.row(c.k, c.b, 0) + p.first_state;
  for (int i = thread; i < kRows * kSliceStates; i += threads) {
    const int row = i / kSliceStates, n = i % kSliceStates;
    to[row][n / 4].v[n % 4] =
        row < count && n < p.states ? to_state(row_at(base, token[row], rows.token)[n]) : S(0);
  }
}

SEGMAMBA_HD int smaller(int a, int b) { return a < b ? a : b; }

// The tokens of a chunk's steps, the last one again beyond its end.
template <class Block, class T>
SEGMAMBA_HD void stage_tokens(Block& block, const DeviceScan<T>& p, const Place& place, int chunk) {
  const int last = p.chunk_steps(chunk) - 1;
  const ScanMap& map = p.maps[place.sequence / p.shape().batch];
  block.each([&](int thread, typename Block::Registers&) {
    for (int i = thread; i < kCudaChunk; i += block.threads()) {
      block.shared().token[i] = map.token(chunk * kCudaChunk + smaller(i, last));
    }
  });
}

// ------------------------------------------------------------------------------------- forward

template <class T>
struct ForwardParams {
  DeviceScan<T> scan;
  State<T>* starts;       // [K, B, segments, N, D]: ends, then (after Carry) starts
  State<T>* delta_sums;   // [K, B, segments, D]
  State<T>* checkpoints;  // [K, B, chunks, N, D] or nullptr
  State<T>* apart;        // [slices * K, B, L, D], or nullptr: the members below
  State<T>* sum;          // [B, L, D], the sum over directions so far:
  bool adds, keeps;       // whether it is read, and whether it is written
  T* out;                 // [B, L, D], or nullptr: not finished by this launch
};

// Steps whose x and delta a thread loads together.
inline constexpr int kTile = 8;

// Where a scan's results go.
enum class Emit {
  kEnd,      // nowhere: from zero, leaving the end of the segment and the sum of delta
  kApart,    // from its start, y of each direction into its own buffer
  kInOrder,  // from its start, y added to that of the directions before, gated by the last one
};

// Scans a segment, a channel and its 16 states in each thread.
template <class T, Emit kTo>
struct SegmentScan {
  static constexpr bool kEmit = kTo != Emit::kEnd;
  using S = State<T>;
  using Params = ForwardParams<T>;
  static constexpr int kMaxThreads = kBlockChannels<S>;
  static constexpr int kMinBlocks = sizeof(S) == 8        ? 1
                                    : kTo == Emit::kEnd   ? 5
                                    : kTo == Emit::kApart ? 4
                                                          : 3;
  struct Registers {
    Channel<T> c;
    S a_log2e[kSliceStates];
    S h[kSliceStates];
    S x[kTile], delta[kTile];  // x, then y
    S delta_sum;
  };
  struct Shared {
    Four<S> B[kTile][kFours];
    Four<S> C[kTile][kFours];
    std::int32_t token[kCudaChunk];
  };

  template <class Block>
  SEGMAMBA_HD static void run(const Params& p, const Place& place, Block& block) {
    const DeviceScan<T>& scan = p.scan;
    block.each([&](int thread, Registers& r) { begin(p, place, thread, block.threads(), r); });
    for (int chunk = scan.first_chunk(place); chunk <= scan.last_chunk(place); ++chunk) {
      if (kEmit) {
        // The barrier also keeps the tokens of the chunk before until all have written their y.
        block.each([&](int, Registers& r) { keep_state(p, place, chunk, r); });
      }
      stage_tokens(block, scan, place, chunk);
      const int steps = scan.chunk_steps(chunk);
      for (int first = 0; first < steps; first += kTile) {
        const int count = smaller(kTile, steps - first);
        block.each([&](int thread, Registers& r) {
          load_tile(p, block.shared().token + first, thread, block.threads(), count, block.shared(),
                    r);
        });
        block.each([&](int, Registers& r) {
          SEGMAMBA_UNROLL
          for (int i = 0; i < kTile; ++i) step(i, block.shared(), r);
        });
        if (!kEmit) continue;
        block.each_alone([&](int, Registers& r) {
          if (r.c.active) emit(p, block.shared().token + first, count, r);
        });
      }
    }
    if (kEmit) return;
    block.each_alone([&](int, Registers& r) {
      if (!r.c.active) return;
      SEGMAMBA_UNROLL
      for (int n = 0; n < kSliceStates; ++n) {
        if (n < scan.states) p.starts[scan.segment_state(place, n, r.c.d)] = r.h[n];
      }
      p.delta_sums[scan.segment_channel(place, r.c.d)] = r.delta_sum;
    });
  }

 private:
  SEGMAMBA_HD static void begin(const Params& p, const Place& place, int thread, int threads,
                                Registers& r) {
    r.c.begin(p.scan, place, thread, threads);
    r.delta_sum = 0;
    SEGMAMBA_UNROLL
    for (int n = 0; n < kSliceStates; ++n) {
      r.a_log2e[n] = load_a_log2e(p.scan, r.c.k, n, r.c.d);
      r.h[n] = kEmit && p.starts && n < p.scan.states
                   ? p.starts[p.scan.segment_state(place, n, r.c.d)]
                   : S(0);
    }
  }

  SEGMAMBA_HD static void keep_state(const Params& p, const Place& place, int chunk,
                                     const Registers& r) {
    if (!p.checkpoints || !r.c.active) return;
    SEGMAMBA_UNROLL
    for (int n = 0; n < kSliceStates; ++n) {
      if (n < p.scan.states) p.checkpoints[p.scan.chunk_state(place, chunk, n, r.c.d)] = r.h[n];
    }
  }

  SEGMAMBA_HD static void load_tile(const Params& p, const std::int32_t* token, int thread,
                                    int threads, int count, Shared& shared, Registers& r) {
    const ScanInputs<T>& in = p.scan.in;
    const T* const x = r.c.rows(in.x);
    const T* const raw = r.c.rows(in.delta);
    SEGMAMBA_UNROLL
    for (int i = 0; i < kTile; ++i) {
      r.x[i] = to_state(*row_at(x, token[i], in.x.token));
      r.delta[i] = to_state(*row_at(raw, token[i], in.delta.token));
    }
    stage_rows(p.scan, in.B, r.c, token, thread, threads, count, shared.B);
    if (kEmit) stage_rows(p.scan, in.C, r.c, token, thread, threads, count, shared.C);
    delta_of_tile(p.scan, r.c.bias, count, r.delta);
  }

  SEGMAMBA_HD static void step(int i, const Shared& shared, Registers& r) {
    const S delta = r.delta[i];
    const S input = delta * r.x[i];
    S y = r.c.skip * r.x[i];
    SEGMAMBA_UNROLL
    for (int four = 0; four < kFours; ++four) {
      const Four<S> B = shared.B[i][four];
      Four<S> C;
      if (kEmit) C = shared.C[i][four];
      SEGMAMBA_UNROLL
      for (int m = 0; m < 4; ++m) {
        const int n = 4 * four + m;
        // A sweep that does little else waits for the special function unit: spread the work.
        const S decay = !kEmit && n % 8 < kFmaExponentials / 2 ? exp2_by_fma(delta * r.a_log2e[n])
                                                               : decay_of(delta, r.a_log2e[n]);
        r.h[n] = advance(r.h[n], decay, input, B.v[m]);
        if (kEmit) y += C.v[m] * r.h[n];
      }
    }
    r.delta_sum += delta;
    if (kEmit) r.x[i] = y;
  }

  SEGMAMBA_HD static void emit(const Params& p, const std::int32_t* token, int count,
                               Registers& r) {
    const ScanShape& s = p.scan.shape();
    const std::int64_t output = r.c.output(s);
    if constexpr (kTo == Emit::kApart) {
      // Copy slice * K + k.
      const int copy = p.scan.first_state / kSliceStates * s.directions + r.c.k;
      store(p.apart + static_cast<std::int64_t>(copy) * s.batch * s.length * s.channels + output,
            s.channels, token, count, r.x);
      return;
    }
    if (p.adds) {
      SEGMAMBA_UNROLL
      for (int i = 0; i < kTile; ++i) r.x[i] += *row_at(p.sum + output, token[i], s.channels);
    }
    if (p.keeps) store(p.sum + output, s.channels, token, count, r.x);
    if (!p.out) return;
    const Rows<const T>& z_rows = p.scan.in.z;
    if (z_rows.data) {
      const T* const z = r.c.rows(z_rows);
      SEGMAMBA_UNROLL
      for (int i = 0; i < kTile; ++i) {
        r.x[i] *= silu(to_state(*row_at(z, token[i], z_rows.token)));
      }
    }
    store(p.out + output, s.channels, token, count, r.x);
  }
  template <class To>
  SEGMAMBA_HD static void store(To* base, std::int32_t stride, const std::int32_t* token, int count,
                                const S (&y)[kTile]) {
    SEGMAMBA_UNROLL
    for (int i = 0; i < kTile; ++i) {
      if (i < count) from_state(y[i], *row_at(base, token[i], stride));
    }
  }
};

// One item a state: walks its segments in order (or backwards, for the adjoint) and replaces what
// each segment gives when started from zero by what it starts from.
template <class T>
struct Carry {
  using S = State<T>;
  struct Params {
    DeviceScan<T> scan;
    const S* delta_sums;  // [K, B, segments, D]
    S* states;            // [K, B, segments, N, D]
    bool backwards;
  };
  static std::int64_t rows(const DeviceScan<T>& scan) {
    return static_cast<std::int64_t>(scan.in.shape.directions) * scan.in.shape.batch * scan.states;
  }
  SEGMAMBA_HD static void run(const Params& p, std::int64_t row, int d) {
    const int n = static_cast<int>(row % p.scan.states);
    const int sequence = static_cast<int>(row / p.scan.states);
    const S a_log2e = load_a_log2e(p.scan, sequence / p.scan.shape().batch, n, d);
    S state = 0;
    // Segments are loaded ahead, so that only arithmetic waits for the segment before.
    constexpr int kAhead = 8;
    for (int first = 0; first < p.scan.segments; first += kAhead) {
      S from_zero[kAhead], decay[kAhead];
      std::int64_t at[kAhead];
      SEGMAMBA_UNROLL
      for (int i = 0; i < kAhead; ++i) {
        if (first + i >= p.scan.segments) continue;
        const Place place{p.backwards ? p.scan.segments - 1 - first - i : first + i, 0, sequence};
        at[i] = p.scan.segment_state(place, n, d);
        from_zero[i] = p.states[at[i]];
        decay[i] = exp2_of(p.delta_sums[p.scan.segment_channel(place, d)] * a_log2e);
      }
      SEGMAMBA_UNROLL
      for (int i = 0; i < kAhead; ++i) {
        if (first + i >= p.scan.segments) continue;
        p.states[at[i]] = state;
        state = decay[i] * state + from_zero[i];
      }
    }
  }
};

// One item an output element: the sum over directions in order, and the gate.
template <class T>
struct SumAndGate {
  using S = State<T>;
  struct Params {
    ForwardParams<T> forward;
    int copies;  // slices * K
    S* ungated;  // [B, L, D] or nullptr
    T* out;      // [B, L, D] or nullptr
    bool adds;   // to `ungated`
  };
  SEGMAMBA_HD static void run(const Params& p, std::int64_t row, int d) {
    const DeviceScan<T>& scan = p.forward.scan;
    const ScanShape& s = scan.shape();
    const std::int64_t size = static_cast<std::int64_t>(s.batch) * s.length * s.channels;
    const std::int64_t at = row * s.channels + d;
    S sum = p.adds ? p.ungated[at] : S(0);
    for (int k = 0; k < p.copies; ++k) sum += p.forward.apart[k * size + at];
    if (p.ungated) p.ungated[at] = sum;
    if (!p.out) return;
    if (scan.in.z.data) {
      const auto b = static_cast<std::int32_t>(row / s.length);
      const auto* z = scan.in.z.row(0, b, row - static_cast<std::int64_t>(b) * s.length);
      sum *= silu(to_state(z[d]));
    }
    from_state(sum, p.out[at]);
  }
};

// ------------------------------------------------------------------------------------ backward

template <class T>
struct BackwardParams {
  DeviceScan<T> scan;
  ScanGradients<T> grad;
  int tiles;
  State<T>* adjoints;    // [K, B, segments, N, D]: passed back, then (after Carry) received
  State<T>* delta_sums;  // [K, B, segments, D]
  State<T>* dA;          // [K, B, segments, N, D]
  State<T>* dD;          // [K, B, segments, D]
  State<T>* dbias;       // [K, B, segments, D]
  State<T>* dBC;         // [tiles, K, B, L, 2, 16], or nullptr where there is one tile
};

// One item an element of z: the gradient of the gate.
template <class T>
struct GateGradient {
  using S = State<T>;
  using Params = BackwardParams<T>;
  SEGMAMBA_HD static void run(const Params& p, std::int64_t row, int d) {
    const ScanShape& s = p.scan.shape();
    const auto b = static_cast<std::int32_t>(row / s.length);
    const auto* z_row = p.scan.in.z.row(0, b, row - static_cast<std::int64_t>(b) * s.length);
    const S z = to_state(z_row[d]);
    const std::int64_t at = row * s.channels + d;
    from_state(to_state(p.grad.out[at]) * p.grad.ungated[at] * silu_slope(z), p.grad.z[at]);
  }
};

// The gradient of y at the tokens of a tile; zero beyond `count`.
template <class T, class S, int kSteps>
SEGMAMBA_HD void load_gradient_of_y(const BackwardParams<T>& p, const Channel<T>& c,
                                    const std::int32_t* token, int count, S (&gy)[kSteps]) {
  const ScanInputs<T>& in = p.scan.in;
  const T* const out = p.grad.out + c.output(in.shape);
  SEGMAMBA_UNROLL
  for (int i = 0; i < kSteps; ++i) gy[i] = to_state(*row_at(out, token[i], in.shape.channels));
  if (in.z.data) {
    const T* const z = c.rows(in.z);
    SEGMAMBA_UNROLL
    for (int i = 0; i < kSteps; ++i) gy[i] *= silu(to_state(*row_at(z, token[i], in.z.token)));
  }
  SEGMAMBA_UNROLL
  for (int i = 0; i < kSteps; ++i) gy[i] = i < count && c.active ? gy[i] : S(0);
}

// What a segment passes back to the one before it when it receives nothing, and its sum of delta. A
// channel and its 16 states in each thread.
template <class T>
struct SegmentAdjoint {
  using S = State<T>;
  using Params = BackwardParams<T>;
  static constexpr int kMaxThreads = kBlockChannels<S>;
  static constexpr int kMinBlocks = sizeof(S) == 8 ? 1 : 4;
  struct Registers {
    Channel<T> c;
    S a_log2e[kSliceStates];
    S g[kSliceStates];
    S delta[kTile], gy[kTile];
    S delta_sum;
  };
  struct Shared {
    Four<S> C[kTile][kFours];
    std::int32_t token[kCudaChunk];
  };

  template <class Block>
  SEGMAMBA_HD static void run(const Params& p, const Place& place, Block& block) {
    const DeviceScan<T>& scan = p.scan;
    block.each([&](int thread, Registers& r) {
      r.c.begin(scan, place, thread, block.threads());
      r.delta_sum = 0;
      SEGMAMBA_UNROLL
      for (int n = 0; n < kSliceStates; ++n) {
        r.a_log2e[n] = load_a_log2e(scan, r.c.k, n, r.c.d);
        r.g[n] = 0;
      }
    });
    for (int chunk = scan.last_chunk(place); chunk >= scan.first_chunk(place); --chunk) {
      stage_tokens(block, scan, place, chunk);
      const int steps = scan.chunk_steps(chunk);
      for (int first = (steps - 1) / kTile * kTile; first >= 0; first -= kTile) {
        const int count = smaller(kTile, steps - first);
        block.each([&](int thread, Registers& r) {
          const std::int32_t* const token = block.shared().token + first;
          const T* const raw = r.c.rows(scan.in.delta);
          SEGMAMBA_UNROLL
          for (int i = 0; i < kTile; ++i) {
            r.delta[i] = to_state(*row_at(raw, token[i], scan.in.delta.token));
          }
          stage_rows(scan, scan.in.C, r.c, token, thread, block.threads(), count, block.shared().C);
          load_gradient_of_y(p, r.c, token, count, r.gy);
          delta_of_tile(scan, r.c.bias, count, r.delta);
        });
        block.each([&](int, Registers& r) {
          SEGMAMBA_UNROLL
          for (int i = kTile - 1; i >= 0; --i) step(i, block.shared(), r);
        });
      }
    }
    block.each_alone([&](int, Registers& r) {
      if (!r.c.active) return;
      SEGMAMBA_UNROLL
      for (int n = 0; n < kSliceStates; ++n) {
        if (n < scan.states) p.adjoints[scan.segment_state(place, n, r.c.d)] = r.g[n];
      }
      p.delta_sums[scan.segment_channel(place, r.c.d)] = r.delta_sum;
    });
  }

 private:
  SEGMAMBA_HD static void step(int i, const Shared& shared, Registers& r) {
    const S delta = r.delta[i];
    SEGMAMBA_UNROLL
    for (int four = 0; four < kFours; ++four) {
      const Four<S> C = shared.C[i][four];
      SEGMAMBA_UNROLL
      for (int m = 0; m < 4; ++m) {
        const int n = 4 * four + m;
        r.g[n] = (r.g[n] + r.gy[i] * C.v[m]) * decay_of(delta, r.a_log2e[n]);
      }
    }
    r.delta_sum += delta;
  }
};

// The gradients of a segment, chunk by chunk from its end. A chunk's states are formed again from
// its checkpoint: a first walk keeps the state at the start of every span of kSpan steps in shared
// memory, then span by span from the last one the states are walked once more into registers and
// the steps taken back.
//
// Each thread holds a square of four channels by four states, so that the sums over channels (dB,
// dC) and over states (d(delta x), d(delta)) cost seven and six exchanges a step instead of the 31
// of a channel a thread. What belongs to a channel alone is loaded, and its gradients are stored,
// by the thread whose number is the channel's; a warp owns its 32 channels.
template <class T>
struct SegmentBackward {
  using S = State<T>;
  using Params = BackwardParams<T>;
  static constexpr int kMaxThreads = kBlockChannels<S>;
  static constexpr int kMinBlocks = sizeof(S) == 8 ? 1 : 2;
  static constexpr int kSpan = sizeof(S) == 8 ? 4 : 8;
  static constexpr int kSpans = kCudaChunk / kSpan;
  static constexpr int kSquare = 16;
  struct Registers {
    Channel<T> c;
    S a_log2e[kSquare];   // [channel][state], as all squares
    S start[kSquare];     // the state before the span
    S h[kSpan][kSquare];  // h[i] is the state after step i of the span
    S g[kSquare];
    S dA[kSquare];
    S dBC[8];     // dB, then dC, of four states
    S dinput[8];  // of four channels: d(delta x), d(delta) / ln 2
    S dD, dbias;
  };
  struct Shared {
    Four<S> starts[kSpans][4][kMaxThreads];
    Four<S> B[kSpan][kFours], C[kSpan][kFours];
    // Of a channel at a step of the span.
    S delta[kSpan][kMaxThreads], input[kSpan][kMaxThreads], gy[kSpan][kMaxThreads];
    S x[kSpan][kMaxThreads], slope[kSpan][kMaxThreads];                // slope: of softplus
    S input_grad[kSpan][kMaxThreads], decay_grad[kSpan][kMaxThreads];  // see StepAdjoint
    S dBC[kSpan][kMaxThreads / kWarp][kWarp];
    std::int32_t token[kCudaChunk];
  };

  template <class Block>
  SEGMAMBA_HD static void run(const Params& p, const Place& place, Block& block) {
    const DeviceScan<T>& scan = p.scan;
    block.each([&](int thread, Registers& r) { begin(p, place, thread, block.threads(), r); });
    for (int chunk = scan.last_chunk(place); chunk >= scan.first_chunk(place); --chunk) {
      stage_tokens(block, scan, place, chunk);
      block.each_alone([&](int thread, Registers& r) {
        for_square([&](int j, int m) {
          const int n = 4 * quad(thread) + m, d = place.tile * block.threads() + four(thread) + j;
          r.start[4 * j + m] = n < scan.states && d < scan.shape().channels
                                   ? p.grad.checkpoints[scan.chunk_state(place, chunk, n, d)]
                                   : S(0);
        });
      });
      const int steps = scan.chunk_steps(chunk);
      const int spans = divide_up(steps, kSpan);
      for (int span = 0; span < spans; ++span) {
        block.each_alone([&](int thread, Registers& r) {
          SEGMAMBA_UNROLL
          for (int j = 0; j < 4; ++j) {
            Four<S>& to = block.shared().starts[span][j][thread];
            to = {{r.start[4 * j], r.start[4 * j + 1], r.start[4 * j + 2], r.start[4 * j + 3]}};
          }
        });
        if (span + 1 == spans) break;
        stage_span<false>(p, block, span, kSpan);
        block.each([&](int thread, Registers& r) {
          SEGMAMBA_UNROLL_TWO
          for (int i = 0; i < kSpan; ++i) {
            walk(block.shared(), i, thread, r, r.start, r.start);
          }
        });
      }
      for (int span = spans - 1; span >= 0; --span) {
        const int count = smaller(kSpan, steps - span * kSpan);
        stage_span<true>(p, block, span, count);
        block.each_alone([&](int thread, Registers& r) {
          load_start(block.shared(), span, thread, r);
          SEGMAMBA_UNROLL
          for (int i = 0; i < kSpan; ++i) {
            walk(block.shared(), i, thread, r, i > 0 ? r.h[i - 1] : r.start, r.h[i]);
          }
        });
        SEGMAMBA_UNROLL
        for (int i = kSpan - 1; i >= 0; --i) {
          if (i == 0) {  // again: its registers were free for the steps above
            block.each_alone(
                [&](int thread, Registers& r) { load_start(block.shared(), span, thread, r); });
          }
          step_back(block, i);
        }
        block.each([](int, Registers&) {});
        block.each([&](int thread, Registers& r) {
          store_channel(p, block.shared(), span, count, thread, r);
          store_rows(p, place, block, span, count, thread);
        });
      }
    }
    block.each_alone([&](int thread, Registers& r) { finish(p, place, block, thread, r); });
  }

 private:
  template <class Body>
  SEGMAMBA_HD static void for_square(const Body& body) {
    SEGMAMBA_UNROLL
    for (int j = 0; j < 4; ++j) {
      SEGMAMBA_UNROLL
      for (int m = 0; m < 4; ++m) body(j, m);
    }
  }
  // A thread's states are 4 quad ..., its channels those from four on.
  SEGMAMBA_HD static int quad(int thread) { return thread % 4; }
  SEGMAMBA_HD static int four(int thread) { return thread / 4 * 4; }

  SEGMAMBA_HD static void begin(const Params& p, const Place& place, int thread, int threads,
                                Registers& r) {
    const DeviceScan<T>& scan = p.scan;
    r.c.begin(scan, place, thread, threads);
    r.dD = r.dbias = 0;
    for_square([&](int j, int m) {
      const int n = 4 * quad(thread) + m, d = place.tile * threads + four(thread) + j;
      const bool used = n < scan.states && d < scan.shape().channels;
      r.a_log2e[4 * j + m] = load_a_log2e(scan, r.c.k, n, d);
      r.dA[4 * j + m] = 0;
      r.g[4 * j + m] = used && p.adjoints ? p.adjoints[scan.segment_state(place, n, d)] : S(0);
    });
  }

  // What a span's steps need: of channels by the threads that own them, B and C by all. Steps
  // beyond `count` are zeros, which leave states and gradients as they are, so that the walks need
  // no branches.
  template <bool kBack, class Block>
  SEGMAMBA_HD static void stage_span(const Params& p, Block& block, int span, int count) {
    const DeviceScan<T>& scan = p.scan;
    block.each([&](int thread, Registers& r) {
      Shared& shared = block.shared();
      const std::int32_t* const token = shared.token + span * kSpan;
      const T* const x_rows = r.c.rows(scan.in.x);
      const T* const raw_rows = r.c.rows(scan.in.delta);
      S x[kSpan], delta[kSpan];
      SEGMAMBA_UNROLL
      for (int i = 0; i < kSpan; ++i) {
        x[i] = to_state(*row_at(x_rows, token[i], scan.in.x.token));
        delta[i] = to_state(*row_at(raw_rows, token[i], scan.in.delta.token));
      }
      if (kBack) {
        S gy[kSpan];
        load_gradient_of_y(p, r.c, token, count, gy);
        SEGMAMBA_UNROLL
        for (int i = 0; i < kSpan; ++i) {
          shared.gy[i][thread] = gy[i];
          shared.x[i][thread] = x[i];
          shared.slope[i][thread] = scan.in.delta_softplus ? sigmoid(delta[i] + r.c.bias) : S(1);
        }
      }
      delta_of_tile(scan, r.c.bias, r.c.active ? count : 0, delta);
      SEGMAMBA_UNROLL
      for (int i = 0; i < kSpan; ++i) {
        shared.delta[i][thread] = delta[i];
        shared.input[i][thread] = delta[i] * x[i];
      }
      stage_rows(scan, scan.in.B, r.c, token, thread, block.threads(), count, shared.B);
      if (kBack) stage_rows(scan, scan.in.C, r.c, token, thread, block.threads(), count, shared.C);
    });
  }

  SEGMAMBA_HD static const Four<S>& four_channels(const S* row, int thread) {
    return *reinterpret_cast<const Four<S>*>(row + four(thread));
  }

  SEGMAMBA_HD static void load_start(const Shared& shared, int span, int thread, Registers& r) {
    SEGMAMBA_UNROLL
    for (int j = 0; j < 4; ++j) {
      const Four<S> from = shared.starts[span][j][thread];
      SEGMAMBA_UNROLL
      for (int m = 0; m < 4; ++m) r.start[4 * j + m] = from.v[m];
    }
  }

  // One step of the state.
  SEGMAMBA_HD static void walk(const Shared& shared, int i, int thread, const Registers& r,
                               const S* before, S* after) {
    const Four<S> delta = four_channels(shared.delta[i], thread);
    const Four<S> input = four_channels(shared.input[i], thread);
    const Four<S> B = shared.B[i][quad(thread)];
    for_square([&](int j, int m) {
      const int e = 4 * j + m;
      after[e] = advance(before[e], decay_of(delta.v[j], r.a_log2e[e]), input.v[j], B.v[m]);
    });
  }

  // Takes step i of the span back.
  template <class Block>
  SEGMAMBA_HD static void step_back(Block& block, int i) {
    Shared& shared = block.shared();
    block.each_alone([&](int thread, Registers& r) {
      const Four<S> delta = four_channels(shared.delta[i], thread);
      const Four<S> input = four_channels(shared.input[i], thread);
      const Four<S> gy = four_channels(shared.gy[i], thread);
      const Four<S> B = shared.B[i][quad(thread)], C = shared.C[i][quad(thread)];
      SEGMAMBA_UNROLL
      for (int m = 0; m < 8; ++m) r.dBC[m] = 0;
      SEGMAMBA_UNROLL
      for (int j = 0; j < 4; ++j) {
        StepAdjoint<S> adjoint{gy.v[j], input.v[j], delta.v[j]};
        SEGMAMBA_UNROLL
        for (int m = 0; m < 4; ++m) {
          const int e = 4 * j + m;
          adjoint.template state<true>(r.a_log2e[e], decay_of(delta.v[j], r.a_log2e[e]),
                                       i > 0 ? r.h[i - 1][e] : r.start[e], r.h[i][e], B.v[m],
                                       C.v[m], r.g[e], r.dA[e], r.dBC[m], r.dBC[4 + m]);
        }
        // In the order in which fold() keeps halves: channel 2 u + v of d(delta x) and d(delta).
        r.dinput[4 * (j / 2) + 2 * (j % 2)] = adjoint.input_grad;
        r.dinput[4 * (j / 2) + 2 * (j % 2) + 1] = adjoint.decay_grad;
      }
    });
    // Over the channels of the warp: a thread is left with one of the 32 numbers, dB or dC (lane
    // bit 4) of state 4 q + (lane bits 3, 2).
    const auto dBC = [](Registers& r) { return r.dBC; };
    fold<16, 4>(block, dBC);
    fold<8, 2>(block, dBC);
    fold<4, 1>(block, dBC);
    // Over the states: a thread is left with its own channel.
    const auto dinput = [](Registers& r) { return r.dinput; };
    fold<2, 4>(block, dinput);
    fold<1, 2>(block, dinput);
    block.each_alone([&](int thread, Registers& r) {
      shared.dBC[i][thread / kWarp][thread % kWarp] = r.dBC[0];
      shared.input_grad[i][thread] = r.dinput[0];
      shared.decay_grad[i][thread] = r.dinput[1];
    });
  }

  // dx and d(delta) of the span's steps: each thread those of its channel.
  SEGMAMBA_HD static void store_channel(const Params& p, const Shared& shared, int span, int count,
                                        int thread, Registers& r) {
    if (!r.c.active) return;
    const ScanShape& s = p.scan.shape();
    const bool adds = p.scan.first_state > 0;  // to the slices before
    const std::int64_t base =
        static_cast<std::int64_t>(r.c.k) * s.batch * s.length * s.channels + r.c.output(s);
    SEGMAMBA_UNROLL
    for (int i = 0; i < kSpan; ++i) {
      if (i >= count) break;
      const S x = shared.x[i][thread], gy = shared.gy[i][thread];
      const StepAdjoint<S> adjoint{gy, shared.input[i][thread], shared.delta[i][thread],
                                   shared.input_grad[i][thread], shared.decay_grad[i][thread]};
      S dx = adjoint.x_grad() + r.c.skip * gy;
      S ddelta = adjoint.delta_grad(x) * shared.slope[i][thread];
      r.dD += gy * x;
      r.dbias += ddelta;
      const std::int32_t token = shared.token[span * kSpan + i];
      T* const to_x = row_at(p.grad.x + base, token, s.channels);
      T* const to_delta = row_at(p.grad.delta + base, token, s.channels);
      if (adds) {
        dx += to_state(*to_x);
        ddelta += to_state(*to_delta);
      }
      from_state(dx, *to_x);
      from_state(ddelta, *to_delta);
    }
  }

  // dB and dC of the span's steps: the sums over the block's warps, in order.
  template <class Block>
  SEGMAMBA_HD static void store_rows(const Params& p, const Place& place, Block& block, int span,
                                     int count, int thread) {
    const Shared& shared = block.shared();
    const ScanShape& s = p.scan.shape();
    for (int at = thread; at < count * kWarp; at += block.threads()) {
      const int i = at / kWarp, lane = at % kWarp;
      S sum = 0;
      for (int warp = 0; warp < block.threads() / kWarp; ++warp) sum += shared.dBC[i][warp][lane];
      const bool is_C = lane >= 16;
      const int n = 4 * (lane % 4) + lane / 4 % 4;
      const std::int64_t row = token_row(s, place.sequence, shared.token[span * kSpan + i]);
      if (p.dBC) {
        const std::int64_t tile_rows = static_cast<std::int64_t>(s.directions) * s.batch * s.length;
        p.dBC[((place.tile * tile_rows + row) * 2 + (is_C ? 1 : 0)) * kSliceStates + n] = sum;
      } else if (n < p.scan.states) {
        from_state(sum, (is_C ? p.grad.C : p.grad.B)[row * s.states + p.scan.first_state + n]);
      }
    }
  }

  template <class Block>
  SEGMAMBA_HD static void finish(const Params& p, const Place& place, Block& block, int thread,
                                 Registers& r) {
    const DeviceScan<T>& scan = p.scan;
    for_square([&](int j, int m) {
      const int n = 4 * quad(thread) + m, d = place.tile * block.threads() + four(thread) + j;
      if (n < scan.states && d < scan.shape().channels) {
        p.dA[scan.segment_state(place, n, d)] = r.dA[4 * j + m];
      }
    });
    if (!r.c.active) return;
    const std::int64_t at = scan.segment_channel(place, r.c.d);
    // D does not depend on the slice; the bias's gradient is a sum over slices.
    p.dD[at] = r.dD;
    p.dbias[at] = scan.first_state > 0 ? p.dbias[at] + r.dbias : r.dbias;
  }
};

// One item an element of dB and dC: the sum over tiles of channels, in order.
template <class T>
struct SumTiles {
  using Params = BackwardParams<T>;
  SEGMAMBA_HD static void run(const Params& p, std::int64_t row, int column) {
    const ScanShape& s = p.scan.shape();
    const std::int64_t rows = static_cast<std::int64_t>(s.directions) * s.batch * s.length;
    const int n = column % kSliceStates;
    if (n >= p.scan.states) return;
    State<T> sum = 0;
    for (int tile = 0; tile < p.tiles; ++tile) {
      sum += p.dBC[(tile * rows + row) * 2 * kSliceStates + column];
    }
    T* const to = column < kSliceStates ? p.grad.B : p.grad.C;
    from_state(sum, to[row * s.states + p.scan.first_state + n]);
  }
};

// One item an element of dA, dD or dbias: the sum over batch items and segments, in order. Row
// k * (N + 2) + n, with n = N for dD and N + 1 for dbias.
template <class T>
struct SumSegments {
  using S = State<T>;
  using Params = BackwardParams<T>;
  static std::int64_t rows(const ScanShape& s) {
    return static_cast<std::int64_t>(s.directions) * (s.states + 2);
  }
  SEGMAMBA_HD static void run(const Params& p, std::int64_t row, int d) {
    const ScanShape& s = p.scan.shape();
    const int k = static_cast<int>(row / (s.states + 2));
    const int n = static_cast<int>(row % (s.states + 2));
    // Pieces [k * B * segments, ...) of a channel lie `stride` apart.
    const S* from = n < s.states ? p.dA + n * s.channels : n == s.states ? p.dD : p.dbias;
    const std::int64_t stride = static_cast<std::int64_t>(n < s.states ? s.states : 1) * s.channels;
    const std::int64_t pieces = static_cast<std::int64_t>(s.batch) * p.scan.segments;
    from += k * pieces * stride + d;
    constexpr int kAhead = 8;
    S sums[kAhead] = {};
    for (std::int64_t first = 0; first < pieces; first += kAhead) {
      SEGMAMBA_UNROLL
      for (int i = 0; i < kAhead; ++i) {
        if (first + i < pieces) sums[i] += from[(first + i) * stride];
      }
    }
    S sum = 0;
    SEGMAMBA_UNROLL
    for (int i = 0; i < kAhead; ++i) sum += sums[i];
    const std::int64_t channel = static_cast<std::int64_t>(k) * s.channels + d;
    if (n < s.states) {
      p.grad.A[channel * s.states + n] = sum;
    } else if (n == s.states) {
      if (p.grad.D) p.grad.D[channel] = sum;
    } else if (p.grad.delta_bias) {
      p.grad.delta_bias[channel] = sum;
    }
  }
};

// -------------------------------------------------------------------------------------- launches

template <class S>
ScanPlan forward_plan(const ScanShape& s, const ScanTuning& tuning) {
  return {s, tuning.forward_blocks, kBlockChannels<S>, tuning.largest_apart};
}
template <class S>
ScanPlan backward_plan(const ScanShape& s, const ScanTuning& tuning) {
  return {s, tuning.backward_blocks, kBlockChannels<S>, 0};
}

// Buffers one after another in a workspace; without one it only counts.
template <class S>
class Workspace {
 public:
  explicit Workspace(S* memory) : memory_(memory) {}
  S* take(std::int64_t count) {
    S* const at = memory_ ? memory_ + used_ : nullptr;
    used_ += count;
    return at;
  }
  std::size_t used() const { return static_cast<std::size_t>(used_); }

 private:
  S* memory_;
  std::int64_t used_ = 0;
};

template <class S>
struct ForwardBuffers {
  ForwardBuffers(const ScanShape& s, const ScanPlan& plan, Workspace<S>& workspace) {
    const std::int64_t tokens = static_cast<std::int64_t>(s.batch) * s.length * s.channels;
    const std::int64_t segment_channels =
        static_cast<std::int64_t>(s.directions) * s.batch * plan.segments * s.channels;
    if (plan.segments > 1) {
      starts = workspace.take(segment_channels * s.states);
      delta_sums = workspace.take(segment_channels);
    }
    if (plan.apart) {
      apart = workspace.take(tokens * s.directions * plan.slices);
    } else if (s.directions * plan.slices > 1) {
      sum = workspace.take(tokens);
    }
  }
  S *starts = nullptr, *delta_sums = nullptr, *apart = nullptr, *sum = nullptr;
};

template <class S>
struct BackwardBuffers {
  BackwardBuffers(const ScanShape& s, const ScanPlan& plan, Workspace<S>& workspace) {
    const std::int64_t sequences = static_cast<std::int64_t>(s.directions) * s.batch;
    const std::int64_t segment_channels = sequences * plan.segments * s.channels;
    if (plan.segments > 1) {
      adjoints = workspace.take(segment_channels * s.states);
      delta_sums = workspace.take(segment_channels);
    }
    dA = workspace.take(segment_channels * s.states);
    dD = workspace.take(segment_channels);
    dbias = workspace.take(segment_channels);
    if (plan.tiles > 1) dBC = workspace.take(sequences * plan.tiles * s.length * 2 * kSliceStates);
  }
  S *adjoints = nullptr, *delta_sums = nullptr, *dA = nullptr, *dD = nullptr, *dbias = nullptr;
  S* dBC = nullptr;
};

inline std::size_t checkpoint_count(const ScanShape& s) {
  return static_cast<std::size_t>(s.directions) * s.batch * divide_up(s.length, kCudaChunk) *
         s.states * s.channels;
}
template <class S>
std::size_t forward_workspace(const ScanShape& s, const ScanTuning& tuning) {
  if (s.batch == 0 || s.length == 0) return 0;
  Workspace<S> counter(nullptr);
  ForwardBuffers<S>(s, forward_plan<S>(s, tuning), counter);
  return counter.used();
}
template <class S>
std::size_t backward_workspace(const ScanShape& s, const ScanTuning& tuning) {
  if (s.batch == 0 || s.length == 0) return 0;
  Workspace<S> counter(nullptr);
  BackwardBuffers<S>(s, backward_plan<S>(s, tuning), counter);
  return counter.used();
}

template <class T, class Launcher>
void launch_forward(const ScanInputs<T>& in, const ScanOutputs<T>& out, State<T>* memory,
                    const ScanTuning& tuning, const Launcher& launcher) {
  using S = State<T>;
  const ScanShape& s = in.shape;
  const auto plan = forward_plan<S>(s, tuning);
  Workspace<S> workspace(memory);
  const ForwardBuffers<S> buffers(s, plan, workspace);
  ForwardParams<T> p{DeviceScan<T>(in, plan), buffers.starts, buffers.delta_sums, out.checkpoints,
                     buffers.apart,
                     // Directions that follow one another add to one buffer.
                     out.ungated ? out.ungated : buffers.sum, out.adds, true, out.out};
  for (int slice = 0; slice < plan.slices; ++slice) {
    p.scan.set_slice(slice);
    Grid grid = plan.grid(s);
    if (plan.segments > 1) {
      launcher.template blocks<SegmentScan<T, Emit::kEnd>>(p, grid);
      launcher.template items<Carry<T>>({p.scan, p.delta_sums, p.starts, false},
                                        Carry<T>::rows(p.scan), s.channels);
    }
    if (plan.apart) {
      launcher.template blocks<SegmentScan<T, Emit::kApart>>(p, grid);
      continue;
    }
    for (int k = 0; k < s.directions; ++k) {
      const bool first = slice == 0 && k == 0;
      const bool last = slice + 1 == plan.slices && k + 1 == s.directions;
      p.adds = !first || out.adds;
      p.keeps = !last || out.ungated;
      p.out = last ? out.out : nullptr;
      grid.first_sequence = k * s.batch;
      grid.sequences = s.batch;
      launcher.template blocks<SegmentScan<T, Emit::kInOrder>>(p, grid);
    }
  }
  if (plan.apart) {
    launcher.template items<SumAndGate<T>>(
        {p, plan.slices * s.directions, out.ungated, out.out, out.adds},
        static_cast<std::int64_t>(s.batch) * s.length, s.channels);
  }
}

template <class T, class Launcher>
void launch_backward(const ScanInputs<T>& in, const ScanGradients<T>& grad, State<T>* memory,
                     const ScanTuning& tuning, const Launcher& launcher) {
  using S = State<T>;
  const ScanShape& s = in.shape;
  const auto plan = backward_plan<S>(s, tuning);
  Workspace<S> workspace(memory);
  const BackwardBuffers<S> buffers(s, plan, workspace);
  BackwardParams<T> p{DeviceScan<T>(in, plan),
                      grad,
                      plan.tiles,
                      buffers.adjoints,
                      buffers.delta_sums,
                      buffers.dA,
                      buffers.dD,
                      buffers.dbias,
                      buffers.dBC};
  const Grid grid = plan.grid(s);
  const std::int64_t tokens = static_cast<std::int64_t>(s.batch) * s.length;
  if (grad.z) launcher.template items<GateGradient<T>>(p, tokens, s.channels);
  for (int slice = 0; slice < plan.slices; ++slice) {
    p.scan.set_slice(slice);
    if (plan.segments > 1) {
      launcher.template blocks<SegmentAdjoint<T>>(p, grid);
      launcher.template items<Carry<T>>({p.scan, p.delta_sums, p.adjoints, true},
                                        Carry<T>::rows(p.scan), s.channels);
    }
    launcher.template blocks<SegmentBackward<T>>(p, grid);
    if (p.dBC) {
      launcher.template items<SumTiles<T>>(p, tokens * s.directions, 2 * kSliceStates);
    }
  }
  launcher.template items<SumSegments<T>>(p, SumSegments<T>::rows(s), s.channels);
}

}  // namespace segmamba::kernels
