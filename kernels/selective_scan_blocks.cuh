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

#include <type_traits>

#include "cuda_blocks.h"
#include "selective_scan_math.cuh"
#include "selective_scan_tuning.h"

namespace segmamba::kernels {

// States of one launch; those beyond N are zero and stay so.
inline constexpr int kSliceStates = 16;

// Channels of one block at most, one a thread. float64, which only checks gradients, takes one warp
// for the sake of shared memory.
template <class S>
inline constexpr int kBlockChannels = sizeof(S) == 8 ? kWarp : 3 * kWarp;

// How a shape is cut.
struct ScanPlan {
  // largest_apart: see ScanTuning; 0 where each direction has a result of its own anyway.
  ScanPlan(const ScanShape& s, int fill, int block_channels, std::int64_t largest_apart)
      : chunks(divide_up(s.length, kCudaChunk)),
        tiles(divide_up(s.channels, block_channels)),
        threads(divide_up(divide_up(s.channels, tiles), kWarp) * kWarp),
        slices(divide_up(s.states, kSliceStates)) {
    const std::int64_t numbers =
        static_cast<std::int64_t>(s.directions) * slices * s.batch * s.length * s.channels;
    apart = s.directions * slices > 1 && numbers <= largest_apart;
    // Directions that follow one another have to fill the GPU one by one. A second pass over the
    // steps has to be worth more than twice the blocks.
    const bool at_once = apart || largest_apart == 0;
    const std::int64_t without =
        static_cast<std::int64_t>(at_once ? s.directions : 1) * s.batch * tiles;
    const std::int64_t wanted = fill / without;
    segments = wanted < 2 ? 1 : wanted < chunks ? static_cast<int>(wanted) : chunks;
  }
  int chunks, tiles, threads, slices;
  int segments;
  bool apart;  // the sum over directions by way of a buffer for each

  Grid grid(const ScanShape& s) const {
    return {segments, tiles, s.directions * s.batch, 0, threads};
  }
};

template <class T>
struct DeviceScan {
  DeviceScan(const ScanInputs<T>& inputs, const ScanPlan& plan)
      : in(inputs), segments(plan.segments) {
    for (int k = 0; k < in.shape.directions; ++k) maps[k] = inputs.maps[k];
  }
  void set_slice(int slice) {
    first_state = slice * kSliceStates;
    const int left = in.shape.states - first_state;
    states = left < kSliceStates ? left : kSliceStates;
  }
  ScanInputs<T> in;  // in.maps is not used on the device
  ScanMap maps[kMaxDirections];
  int segments;
  int first_state = 0, states = 0;  // of the slice

  SEGMAMBA_HD const ScanShape& shape() const { return in.shape; }
  SEGMAMBA_HD int chunks() const { return divide_up(in.shape.length, kCudaChunk); }
  // Segments differ by a chunk at most.
  SEGMAMBA_HD int first_chunk(const Place& place) const { return chunk_at(place.segment); }
  SEGMAMBA_HD int last_chunk(const Place& place) const { return chunk_at(place.segment + 1) - 1; }
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
  SEGMAMBA_HD int chunk_at(int segment) const {
    return static_cast<int>(static_cast<std::int64_t>(segment) * chunks() / segments);
  }
  SEGMAMBA_HD std::int64_t segment_row(const Place& place) const {
    return static_cast<std::int64_t>(place.sequence) * segments + place.segment;
  }
};

SEGMAMBA_HD std::int64_t token_row(const ScanShape& s, int sequence, std::int32_t token) {
  return static_cast<std::int64_t>(sequence) * s.length + token;
}

// Row `token` of rows that lie `stride` numbers apart, fewer than 2^28. Counted in bytes, an
// address is one instruction: a product of 32 by 32 bits and a sum of 64.
template <class T>
SEGMAMBA_HD T* row_at(T* base, std::int32_t token, std::int32_t stride) {
  using Byte = std::conditional_t<std::is_const_v<T>, const char, char>;
  const auto bytes = static_cast<std::int32_t>(stride * sizeof(T));
#if defined(__CUDA_ARCH__)
  // Left to itself the compiler widens the factors where it cannot see both of them.
  std::int64_t offset;
  asm("mul.wide.s32 %0, %1, %2;" : "=l"(offset) : "r"(token), "r"(bytes));
#else
  const std::int64_t offset = static_cast<std::int64_t>(token) * bytes;
#endif
  return reinterpret_cast<T*>(reinterpret_cast<Byte*>(base) + offset);
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

// raw -> delta, and the slope of that where wanted, for the `count` steps of a tile; zero beyond,
// which leaves states and gradients as they are. One branch for all of them.
template <class T, class S, int kSteps>
SEGMAMBA_HD void delta_of_tile(const DeviceScan<T>& p, S bias, int count, S (&raw)[kSteps],
                               S* slope = nullptr) {
  SEGMAMBA_UNROLL
  for (int i = 0; i < kSteps; ++i) {
    raw[i] += bias;
    if (slope) slope[i] = 1;
  }
  if (p.in.delta_softplus) {
    SEGMAMBA_UNROLL
    for (int i = 0; i < kSteps; ++i) {
      raw[i] = slope ? softplus_and_slope(raw[i], slope[i]) : softplus(raw[i]);
    }
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

// `count` rows of `first` - or, with kSets = 2, each followed by that of `second` - for all threads
// of a block; zeros in the rest. 16 lanes of a warp take one row.
template <int kSets, int kRows, class T, class S>
SEGMAMBA_HD void stage_rows(const DeviceScan<T>& p, const Rows<const T>& first,
                            const Rows<const T>& second, const Channel<T>& c,
                            const std::int32_t* token, int thread, int threads, int count,
                            Four<S> (&to)[kRows][kSets * kFours]) {
  constexpr int kRowsOfWarp = 2 / kSets;
  const int half = thread / kSliceStates % 2, n = thread % kSliceStates;
  const Rows<const T>& rows = kSets == 2 && half ? second : first;
  const T* const from = rows.row(c.k, c.b, 0) + p.first_state + n;
  const int set = kSets == 2 ? half : 0;
  for (int row = thread / kWarp * kRowsOfWarp + (kSets == 1 ? half : 0); row < kRows;
       row += threads / kWarp * kRowsOfWarp) {
    to[row][set * kFours + n / 4].v[n % 4] =
        row < count && n < p.states ? to_state(*row_at(from, token[row], rows.token)) : S(0);
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

// Steps whose x and delta a thread loads together.
inline constexpr int kTile = 8;

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

}  // namespace segmamba::kernels
