#pragma once
// The selective scan on the GPU, in three phases each way, as blocks (see cuda_blocks.h):
//   forward:  ChunkEnd (each chunk from a zero state) -> Carry -> ChunkScan -> SumAndGate
//   backward: GateGradient; ChunkAdjoint -> Carry (backwards) -> ChunkBackward -> the sums
// A thread owns one channel with its N states in registers; the threads of a block share the B and
// C of a token. Nothing is added atomically: what several blocks contribute to is written apart and
// summed in order.

#include "cuda_blocks.h"
#include "selective_scan_math.cuh"

namespace segmamba::kernels {

// N is kStates at most; states beyond it are zero and stay so.
inline constexpr int kUsualStates = 16;

template <class T>
struct DeviceScan {
  explicit DeviceScan(const ScanInputs<T>& inputs) : in(inputs) {
    for (int k = 0; k < in.shape.directions; ++k) maps[k] = inputs.maps[k];
  }
  ScanInputs<T> in;  // in.maps is not used on the device
  ScanMap maps[kMaxDirections];
};

// What a thread knows of its channel.
template <class S, int kStates>
struct Channel {
  bool active;
  int k, b, d;
  int begin, steps;  // of the chunk
  S bias, skip;
  S a_log2e[kStates];
};

template <class T, int kStates>
SEGMAMBA_HD void begin_channel(const DeviceScan<T>& p, const Place& place, int thread,
                               Channel<State<T>, kStates>& c) {
  using S = State<T>;
  const ScanShape& s = p.in.shape;
  c.k = place.sequence / s.batch;
  c.b = place.sequence % s.batch;
  c.d = place.tile * kBlockThreads + thread;
  c.active = c.d < s.channels;
  c.begin = place.chunk * kCudaChunk;
  c.steps = s.length - c.begin < kCudaChunk ? s.length - c.begin : kCudaChunk;
  const std::int64_t channel = static_cast<std::int64_t>(c.k) * s.channels + c.d;
  c.bias = c.active && p.in.delta_bias ? p.in.delta_bias[channel] : S(0);
  c.skip = c.active && p.in.D ? p.in.D[channel] : S(0);
  for (int n = 0; n < kStates; ++n) {
    c.a_log2e[n] =
        c.active && n < s.states ? p.in.A[channel * s.states + n] * static_cast<S>(kLog2e) : S(0);
  }
}

template <class S>
struct Step {
  S x, raw, delta;
};

template <class T, int kStates>
SEGMAMBA_HD Step<State<T>> load_step(const DeviceScan<T>& p, const Channel<State<T>, kStates>& c,
                                     std::int32_t token) {
  Step<State<T>> step;
  step.x = to_state(p.in.x.row(c.k, c.b, token)[c.d]);
  step.raw = to_state(p.in.delta.row(c.k, c.b, token)[c.d]) + c.bias;
  step.delta = p.in.delta_softplus ? softplus(step.raw) : step.raw;
  return step;
}

// Element (n, d) of a [K, B, chunks, N, D] buffer at this place.
SEGMAMBA_HD std::int64_t chunk_state(const ScanShape& s, const Place& place, int n, int d) {
  const int chunks = divide_up(s.length, kCudaChunk);
  return ((static_cast<std::int64_t>(place.sequence) * chunks + place.chunk) * s.states + n) *
             s.channels +
         d;
}
// Element d of a [K, B, chunks, D] buffer at this place.
SEGMAMBA_HD std::int64_t chunk_channel(const ScanShape& s, const Place& place, int d) {
  const int chunks = divide_up(s.length, kCudaChunk);
  return (static_cast<std::int64_t>(place.sequence) * chunks + place.chunk) * s.channels + d;
}
SEGMAMBA_HD std::int64_t token_row(const ScanShape& s, int sequence, std::int32_t token) {
  return static_cast<std::int64_t>(sequence) * s.length + token;
}

// B and C of the next kTile tokens, for all threads of a block.
inline constexpr int kTile = 16;
template <class S, int kStates>
struct TokenTile {
  std::int32_t token[kTile];
  S B[kTile][kStates];
  S C[kTile][kStates];
};

// Steps [first, first + count) of the chunk.
template <class T, int kStates>
SEGMAMBA_HD void stage_tile(const DeviceScan<T>& p, const Channel<State<T>, kStates>& c, int thread,
                            int first, int count, TokenTile<State<T>, kStates>& tile) {
  using S = State<T>;
  for (int i = thread; i < count * kStates; i += kBlockThreads) {
    const int row = i / kStates;
    const int n = i % kStates;
    const std::int32_t token = p.maps[c.k].token(c.begin + first + row);
    const bool used = n < p.in.shape.states;
    tile.B[row][n] = used ? to_state(p.in.B.row(c.k, c.b, token)[n]) : S(0);
    tile.C[row][n] = used ? to_state(p.in.C.row(c.k, c.b, token)[n]) : S(0);
    if (n == 0) tile.token[row] = token;
  }
}

SEGMAMBA_HD int tile_rows(int steps, int first) {
  return steps - first < kTile ? steps - first : kTile;
}

template <class T>
struct ForwardParams {
  DeviceScan<T> scan;
  State<T>* chunk_states;  // [K, B, chunks, N, D]: ends, then (after Carry) starts
  State<T>* delta_sums;    // [K, B, chunks, D]
  State<T>* y;             // [K, B, L, D]; nullptr: one direction, written with its gate
  T* out;                  // [B, L, D]
  State<T>* ungated;       // [B, L, D] or nullptr
};

// Scans a chunk. kEmit = false: from zero, leaving the end and the sum of delta. kEmit = true: from
// its start, writing y.
template <class T, int kStates, bool kEmit>
struct ChunkScan {
  using S = State<T>;
  using Params = ForwardParams<T>;
  struct Registers {
    Channel<S, kStates> c;
    S h[kStates];
    S delta_sum;
  };
  using Shared = TokenTile<S, kStates>;
  static constexpr int kPhases = 2;

  SEGMAMBA_HD static int rounds(const Params& p, const Place& place) {
    const int left = p.scan.in.shape.length - place.chunk * kCudaChunk;
    return divide_up(left < kCudaChunk ? left : kCudaChunk, kTile);
  }

  SEGMAMBA_HD static void begin(const Params& p, const Place& place, int thread, Registers& r) {
    begin_channel<T, kStates>(p.scan, place, thread, r.c);
    r.delta_sum = 0;
    const ScanShape& s = p.scan.in.shape;
    for (int n = 0; n < kStates; ++n) {
      r.h[n] = kEmit && r.c.active && n < s.states ? p.chunk_states[chunk_state(s, place, n, r.c.d)]
                                                   : S(0);
    }
  }

  SEGMAMBA_HD static void phase(const Params& p, const Place& place, int phase, int round,
                                int thread, Registers& r, Shared& tile) {
    const int first = round * kTile;
    const int count = tile_rows(r.c.steps, first);
    if (phase == 0) return stage_tile<T, kStates>(p.scan, r.c, thread, first, count, tile);
    if (!r.c.active) return;
    for (int i = 0; i < count; ++i) {
      const std::int32_t token = tile.token[i];
      const Step<S> step = load_step<T, kStates>(p.scan, r.c, token);
      const S input = step.delta * step.x;
      S y = r.c.skip * step.x;
      for (int n = 0; n < kStates; ++n) {
        r.h[n] = advance(r.h[n], decay_of(step.delta, r.c.a_log2e[n]), input, tile.B[i][n]);
        if (kEmit) y += tile.C[i][n] * r.h[n];
      }
      r.delta_sum += step.delta;
      if (kEmit) emit(p, place, r.c, token, y);
    }
  }

  SEGMAMBA_HD static void end(const Params& p, const Place& place, int, Registers& r) {
    if (kEmit || !r.c.active) return;
    const ScanShape& s = p.scan.in.shape;
    for (int n = 0; n < kStates; ++n) {
      if (n < s.states) p.chunk_states[chunk_state(s, place, n, r.c.d)] = r.h[n];
    }
    p.delta_sums[chunk_channel(s, place, r.c.d)] = r.delta_sum;
  }

 private:
  SEGMAMBA_HD static void emit(const Params& p, const Place& place, const Channel<S, kStates>& c,
                               std::int32_t token, S y) {
    const ScanShape& s = p.scan.in.shape;
    if (p.y) {
      p.y[token_row(s, place.sequence, token) * s.channels + c.d] = y;
      return;
    }
    const std::int64_t at = token_row(s, c.b, token) * s.channels + c.d;
    if (p.ungated) p.ungated[at] = y;
    if (p.scan.in.z.data) y *= silu(to_state(p.scan.in.z.row(0, c.b, token)[c.d]));
    from_state(y, p.out[at]);
  }
};

// One item a state: walks its chunks in order (or backwards, for the adjoint) and replaces what
// each chunk gives when started from zero by what it starts from.
template <class T>
struct Carry {
  using S = State<T>;
  struct Params {
    ScanShape shape;
    const S* A;           // [K, D, N]
    const S* delta_sums;  // [K, B, chunks, D]
    S* states;            // [K, B, chunks, N, D]
    bool backwards;
  };
  static std::int64_t count(const ScanShape& s) {
    return static_cast<std::int64_t>(s.directions) * s.batch * s.states * s.channels;
  }
  SEGMAMBA_HD static void run(const Params& p, std::int64_t i) {
    const ScanShape& s = p.shape;
    const int d = static_cast<int>(i % s.channels);
    const int n = static_cast<int>(i / s.channels % s.states);
    const int sequence = static_cast<int>(i / s.channels / s.states);
    const int k = sequence / s.batch;
    const S a_log2e = p.A[(static_cast<std::int64_t>(k) * s.channels + d) * s.states + n] *
                      static_cast<S>(kLog2e);
    const int chunks = divide_up(s.length, kCudaChunk);
    S state = 0;
    for (int j = 0; j < chunks; ++j) {
      const Place place{p.backwards ? chunks - 1 - j : j, 0, sequence};
      S& stored = p.states[chunk_state(s, place, n, d)];
      const S from_zero = stored;
      stored = state;
      state = decay_of(p.delta_sums[chunk_channel(s, place, d)], a_log2e) * state + from_zero;
    }
  }
};

// One item an output element: the sum over directions in order, and the gate.
template <class T>
struct SumAndGate {
  using S = State<T>;
  using Params = ForwardParams<T>;
  SEGMAMBA_HD static void run(const Params& p, std::int64_t i) {
    const ScanShape& s = p.scan.in.shape;
    const std::int64_t size = static_cast<std::int64_t>(s.batch) * s.length * s.channels;
    S sum = 0;
    for (int k = 0; k < s.directions; ++k) sum += p.y[k * size + i];
    if (p.ungated) p.ungated[i] = sum;
    if (p.scan.in.z.data) {
      const std::int64_t row = i / s.channels;
      const auto* z = p.scan.in.z.row(0, row / s.length, row % s.length);
      sum *= silu(to_state(z[i % s.channels]));
    }
    from_state(sum, p.out[i]);
  }
};

template <class T>
struct BackwardParams {
  DeviceScan<T> scan;
  ScanGradients<T> grad;
  State<T>* adjoints;    // [K, B, chunks, N, D]: passed back, then (after Carry) received
  State<T>* delta_sums;  // [K, B, chunks, D]
  State<T>* dA;          // [K, B, chunks, N, D]
  State<T>* dD;          // [K, B, chunks, D]
  State<T>* dbias;       // [K, B, chunks, D]
  State<T>* dB;          // [tiles, K, B, L, N]
  State<T>* dC;          // [tiles, K, B, L, N]
};

// One item an element of z: the gradient of the gate.
template <class T>
struct GateGradient {
  using S = State<T>;
  using Params = BackwardParams<T>;
  SEGMAMBA_HD static void run(const Params& p, std::int64_t i) {
    const ScanShape& s = p.scan.in.shape;
    const std::int64_t row = i / s.channels;
    const S z = to_state(p.scan.in.z.row(0, row / s.length, row % s.length)[i % s.channels]);
    from_state(to_state(p.grad.out[i]) * p.grad.ungated[i] * silu_slope(z), p.grad.z[i]);
  }
};

template <class T, int kStates>
SEGMAMBA_HD State<T> gradient_of_y(const BackwardParams<T>& p, const Channel<State<T>, kStates>& c,
                                   std::int32_t token) {
  const ScanShape& s = p.scan.in.shape;
  State<T> gy = to_state(p.grad.out[token_row(s, c.b, token) * s.channels + c.d]);
  if (p.scan.in.z.data) gy *= silu(to_state(p.scan.in.z.row(0, c.b, token)[c.d]));
  return gy;
}

// What a chunk passes back to the one before it when it receives nothing, and its sum of delta.
template <class T, int kStates>
struct ChunkAdjoint {
  using S = State<T>;
  using Params = BackwardParams<T>;
  struct Registers {
    Channel<S, kStates> c;
    S g[kStates];
    S delta_sum;
  };
  using Shared = TokenTile<S, kStates>;
  static constexpr int kPhases = 2;

  SEGMAMBA_HD static int rounds(const Params& p, const Place& place) {
    const int left = p.scan.in.shape.length - place.chunk * kCudaChunk;
    return divide_up(left < kCudaChunk ? left : kCudaChunk, kTile);
  }
  SEGMAMBA_HD static void begin(const Params& p, const Place& place, int thread, Registers& r) {
    begin_channel<T, kStates>(p.scan, place, thread, r.c);
    r.delta_sum = 0;
    for (int n = 0; n < kStates; ++n) r.g[n] = 0;
  }
  SEGMAMBA_HD static void phase(const Params& p, const Place& place, int phase, int round,
                                int thread, Registers& r, Shared& tile) {
    const int first = (rounds(p, place) - 1 - round) * kTile;
    const int count = tile_rows(r.c.steps, first);
    if (phase == 0) return stage_tile<T, kStates>(p.scan, r.c, thread, first, count, tile);
    if (!r.c.active) return;
    for (int i = count - 1; i >= 0; --i) {
      const Step<S> step = load_step<T, kStates>(p.scan, r.c, tile.token[i]);
      const S gy = gradient_of_y<T, kStates>(p, r.c, tile.token[i]);
      for (int n = 0; n < kStates; ++n) {
        r.g[n] = (r.g[n] + gy * tile.C[i][n]) * decay_of(step.delta, r.c.a_log2e[n]);
      }
      r.delta_sum += step.delta;
    }
  }
  SEGMAMBA_HD static void end(const Params& p, const Place& place, int, Registers& r) {
    if (!r.c.active) return;
    const ScanShape& s = p.scan.in.shape;
    for (int n = 0; n < kStates; ++n) {
      if (n < s.states) p.adjoints[chunk_state(s, place, n, r.c.d)] = r.g[n];
    }
    p.delta_sums[chunk_channel(s, place, r.c.d)] = r.delta_sum;
  }
};

// The gradients of a chunk: its states again from the checkpoint, then its steps backwards, one a
// round. States are kept for the steps of one span only and at the start of every span: registers
// that are indexed live in memory that the GPU reserves for all its threads at once. dB and dC of a
// token are sums over the block's channels, formed in shared memory in the order of the channels.
template <class T, int kStates>
struct ChunkBackward {
  using S = State<T>;
  using Params = BackwardParams<T>;
  static constexpr int kSpan = 8;
  struct Registers {
    Channel<S, kStates> c;
    S starts[kCudaChunk / kSpan][kStates];
    S h[kSpan + 1][kStates];  // h[i] is the state before step i of the span
    S g[kStates];
    S dA[kStates];
    S dD, dbias;
  };
  struct Shared {
    // One column more than threads keeps the columns of a sum in different banks.
    S dB[kStates][kBlockThreads + 1];
    S dC[kStates][kBlockThreads + 1];
  };
  static constexpr int kPhases = 2;

  SEGMAMBA_HD static int rounds(const Params& p, const Place& place) {
    const int left = p.scan.in.shape.length - place.chunk * kCudaChunk;
    return left < kCudaChunk ? left : kCudaChunk;
  }

  SEGMAMBA_HD static void begin(const Params& p, const Place& place, int thread, Registers& r) {
    begin_channel<T, kStates>(p.scan, place, thread, r.c);
    const ScanShape& s = p.scan.in.shape;
    r.dD = r.dbias = 0;
    for (int n = 0; n < kStates; ++n) {
      const bool used = r.c.active && n < s.states;
      r.dA[n] = 0;
      r.g[n] = used ? p.adjoints[chunk_state(s, place, n, r.c.d)] : S(0);
      r.h[0][n] = used ? p.grad.checkpoints[chunk_state(s, place, n, r.c.d)] : S(0);
    }
    if (!r.c.active) return;
    for (int first = 0; first < r.c.steps; first += kSpan) {
      for (int n = 0; n < kStates; ++n) r.starts[first / kSpan][n] = r.h[0][n];
      if (first + kSpan >= r.c.steps) break;
      rebuild_span(p, first, r);
      for (int n = 0; n < kStates; ++n) r.h[0][n] = r.h[kSpan][n];
    }
  }

  SEGMAMBA_HD static void phase(const Params& p, const Place& place, int phase, int round,
                                int thread, Registers& r, Shared& shared) {
    const ScanShape& s = p.scan.in.shape;
    const int i = r.c.steps - 1 - round;
    const std::int32_t token = p.scan.maps[r.c.k].token(r.c.begin + i);
    if (phase == 0) {
      step_back(p, place, i, token, thread, r, shared);
      return;
    }
    // Thread j sums row j of dB, then of dC; kBlockThreads may be fewer than 2 N.
    for (int j = thread; j < 2 * s.states; j += kBlockThreads) {
      const bool is_B = j < s.states;
      const int n = is_B ? j : j - s.states;
      const S* const terms = is_B ? shared.dB[n] : shared.dC[n];
      S sum = 0;
      for (int lane = 0; lane < kBlockThreads; ++lane) sum += terms[lane];
      const std::int64_t tile =
          place.tile * static_cast<std::int64_t>(s.directions) * s.batch * s.length;
      (is_B ? p.dB : p.dC)[(tile + token_row(s, place.sequence, token)) * s.states + n] = sum;
    }
  }

  SEGMAMBA_HD static void end(const Params& p, const Place& place, int, Registers& r) {
    if (!r.c.active) return;
    const ScanShape& s = p.scan.in.shape;
    for (int n = 0; n < kStates; ++n) {
      if (n < s.states) p.dA[chunk_state(s, place, n, r.c.d)] = r.dA[n];
    }
    p.dD[chunk_channel(s, place, r.c.d)] = r.dD;
    p.dbias[chunk_channel(s, place, r.c.d)] = r.dbias;
  }

 private:
  // h of the span that starts at step `first` of the chunk, from h[0].
  SEGMAMBA_HD static void rebuild_span(const Params& p, int first, Registers& r) {
    for (int i = 0; i < kSpan && first + i < r.c.steps; ++i) {
      const std::int32_t token = p.scan.maps[r.c.k].token(r.c.begin + first + i);
      const Step<S> step = load_step<T, kStates>(p.scan, r.c, token);
      const T* const B = p.scan.in.B.row(r.c.k, r.c.b, token);
      for (int n = 0; n < kStates; ++n) {
        r.h[i + 1][n] = n < p.scan.in.shape.states
                            ? advance(r.h[i][n], decay_of(step.delta, r.c.a_log2e[n]),
                                      step.delta * step.x, to_state(B[n]))
                            : S(0);
      }
    }
  }

  SEGMAMBA_HD static void step_back(const Params& p, const Place& place, int i, std::int32_t token,
                                    int thread, Registers& r, Shared& shared) {
    const ScanShape& s = p.scan.in.shape;
    if (!r.c.active) {
      for (int n = 0; n < kStates; ++n) shared.dB[n][thread] = shared.dC[n][thread] = 0;
      return;
    }
    const int in_span = i % kSpan;
    if (in_span == kSpan - 1 || i == r.c.steps - 1) {
      for (int n = 0; n < kStates; ++n) r.h[0][n] = r.starts[i / kSpan][n];
      rebuild_span(p, i - in_span, r);
    }
    const Step<S> step = load_step<T, kStates>(p.scan, r.c, token);
    const S gy = gradient_of_y<T, kStates>(p, r.c, token);
    const T* const B = p.scan.in.B.row(r.c.k, r.c.b, token);
    const T* const C = p.scan.in.C.row(r.c.k, r.c.b, token);
    StepAdjoint<S> adjoint{gy, step.delta * step.x, step.delta};
    for (int n = 0; n < kStates; ++n) {
      if (n >= s.states) continue;
      adjoint.state(r.c.a_log2e[n], decay_of(step.delta, r.c.a_log2e[n]), r.h[in_span][n],
                    r.h[in_span + 1][n], to_state(B[n]), to_state(C[n]), r.g[n], r.dA[n],
                    shared.dB[n][thread], shared.dC[n][thread]);
    }
    S ddelta = adjoint.delta_grad(step.x);
    if (p.scan.in.delta_softplus) ddelta *= sigmoid(step.raw);
    r.dD += gy * step.x;
    r.dbias += ddelta;
    const std::int64_t at = token_row(s, place.sequence, token) * s.channels + r.c.d;
    from_state(adjoint.x_grad() + r.c.skip * gy, p.grad.x[at]);
    from_state(ddelta, p.grad.delta[at]);
  }
};

// One item an element of dB (and dC): the sum over tiles of channels, in order.
template <class T>
struct SumTiles {
  using Params = BackwardParams<T>;
  static std::int64_t count(const ScanShape& s) {
    return static_cast<std::int64_t>(s.directions) * s.batch * s.length * s.states;
  }
  SEGMAMBA_HD static void run(const Params& p, std::int64_t i) {
    const ScanShape& s = p.scan.in.shape;
    const std::int64_t size =
        static_cast<std::int64_t>(s.directions) * s.batch * s.length * s.states;
    State<T> dB = 0, dC = 0;
    for (int tile = 0; tile < divide_up(s.channels, kBlockThreads); ++tile) {
      dB += p.dB[tile * size + i];
      dC += p.dC[tile * size + i];
    }
    from_state(dB, p.grad.B[i]);
    from_state(dC, p.grad.C[i]);
  }
};

// One item a channel of a direction: A, D and delta_bias, sums over batch items and chunks in
// order.
template <class T>
struct SumChunks {
  using S = State<T>;
  using Params = BackwardParams<T>;
  // n in [0, N) is A's state n; N is D, N + 1 is delta_bias.
  static std::int64_t count(const ScanShape& s) {
    return static_cast<std::int64_t>(s.directions) * (s.states + 2) * s.channels;
  }
  SEGMAMBA_HD static void run(const Params& p, std::int64_t i) {
    const ScanShape& s = p.scan.in.shape;
    const int d = static_cast<int>(i % s.channels);
    const int n = static_cast<int>(i / s.channels % (s.states + 2));
    const int k = static_cast<int>(i / s.channels / (s.states + 2));
    const int chunks = divide_up(s.length, kCudaChunk);
    S sum = 0;
    for (int b = 0; b < s.batch; ++b) {
      for (int chunk = 0; chunk < chunks; ++chunk) {
        const Place place{chunk, 0, k * s.batch + b};
        if (n < s.states) {
          sum += p.dA[chunk_state(s, place, n, d)];
        } else {
          sum += (n == s.states ? p.dD : p.dbias)[chunk_channel(s, place, d)];
        }
      }
    }
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

// Sizes of the buffers, in numbers.
struct ScanSizes {
  explicit ScanSizes(const ScanShape& s)
      : chunk_channels(static_cast<std::size_t>(s.directions) * s.batch *
                       divide_up(s.length, kCudaChunk) * s.channels),
        chunk_states(chunk_channels * s.states),
        tokens(static_cast<std::size_t>(s.batch) * s.length * s.channels),
        tile_rows(static_cast<std::size_t>(divide_up(s.channels, kBlockThreads)) * s.directions *
                  s.batch * s.length * s.states),
        // One direction needs no buffer for the sum over directions.
        sum(s.directions > 1 ? tokens * s.directions : 0) {}
  std::size_t chunk_channels, chunk_states, tokens, tile_rows, sum;
  std::size_t forward() const { return chunk_states + chunk_channels + sum; }
  std::size_t backward() const { return 2 * chunk_states + 3 * chunk_channels + 2 * tile_rows; }
};

template <int kStates, class T, class Launcher>
void launch_forward(const ScanInputs<T>& in, const ScanOutputs<T>& out, State<T>* workspace,
                    const Launcher& launcher) {
  const ScanSizes sizes(in.shape);
  State<T>* const starts = out.checkpoints ? out.checkpoints : workspace;
  State<T>* const delta_sums = workspace + sizes.chunk_states;
  State<T>* const y = sizes.sum ? delta_sums + sizes.chunk_channels : nullptr;
  const ForwardParams<T> p{DeviceScan<T>(in), starts, delta_sums, y, out.out, out.ungated};
  const Grid grid = grid_of(in.shape);
  launcher.template blocks<ChunkScan<T, kStates, false>>(p, grid);
  launcher.template items<Carry<T>>({in.shape, in.A, delta_sums, starts, false},
                                    Carry<T>::count(in.shape));
  launcher.template blocks<ChunkScan<T, kStates, true>>(p, grid);
  if (y) {
    launcher.template items<SumAndGate<T>>(p, static_cast<std::int64_t>(sizes.tokens));
  }
}

template <int kStates, class T, class Launcher>
void launch_backward(const ScanInputs<T>& in, const ScanGradients<T>& grad, State<T>* workspace,
                     const Launcher& launcher) {
  const ScanSizes sizes(in.shape);
  State<T>* const adjoints = workspace;
  State<T>* const dA = adjoints + sizes.chunk_states;
  State<T>* const delta_sums = dA + sizes.chunk_states;
  State<T>* const dD = delta_sums + sizes.chunk_channels;
  State<T>* const dbias = dD + sizes.chunk_channels;
  State<T>* const dB = dbias + sizes.chunk_channels;
  State<T>* const dC = dB + sizes.tile_rows;
  const BackwardParams<T> p{DeviceScan<T>(in), grad, adjoints, delta_sums, dA, dD, dbias, dB, dC};
  const Grid grid = grid_of(in.shape);
  if (grad.z) {
    launcher.template items<GateGradient<T>>(p, static_cast<std::int64_t>(sizes.tokens));
  }
  launcher.template blocks<ChunkAdjoint<T, kStates>>(p, grid);
  launcher.template items<Carry<T>>({in.shape, in.A, delta_sums, adjoints, true},
                                    Carry<T>::count(in.shape));
  launcher.template blocks<ChunkBackward<T, kStates>>(p, grid);
  launcher.template items<SumTiles<T>>(p, SumTiles<T>::count(in.shape));
  launcher.template items<SumChunks<T>>(p, SumChunks<T>::count(in.shape));
}

}  // namespace segmamba::kernels
