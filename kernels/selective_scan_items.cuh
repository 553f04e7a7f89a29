#pragma once
// The parts of the scan on the GPU that are one independent sum an element: what passes between
// segments, and what joins the results of blocks, each in a fixed order.

#include "selective_scan_blocks.cuh"

namespace segmamba::kernels {

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
    const int segments = p.scan.segments, channels = p.scan.shape().channels;
    const Place start{p.backwards ? segments - 1 : 0, 0, sequence};
    const std::int64_t sum_stride = p.backwards ? -channels : channels;
    const std::int64_t state_stride = sum_stride * p.scan.shape().states;
    S* states = p.states + p.scan.segment_state(start, n, d);
    const S* sums = p.delta_sums + p.scan.segment_channel(start, d);
    S state = 0;
    // Segments are loaded ahead, so that only arithmetic waits for the segment before.
    constexpr int kAhead = sizeof(S) == 8 ? 8 : 32;
    for (int left = segments; left > 0; left -= kAhead) {
      S from_zero[kAhead], decay[kAhead];
      SEGMAMBA_UNROLL
      for (int i = 0; i < kAhead; ++i) {
        if (i >= left) continue;
        from_zero[i] = states[i * state_stride];
        decay[i] = sums[i * sum_stride];
      }
      SEGMAMBA_UNROLL
      for (int i = 0; i < kAhead; ++i) {
        if (i >= left) continue;
        states[i * state_stride] = state;
        state = exp2_of(decay[i] * a_log2e) * state + from_zero[i];
      }
      states += kAhead * state_stride;
      sums += kAhead * sum_stride;
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
    const S sum = strided_sum(from + k * pieces * stride + d, stride, pieces);
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

}  // namespace segmamba::kernels
