#pragma once
// The backward's kernels: what segments pass back, and their gradients.

#include "selective_scan_blocks.cuh"

namespace segmamba::kernels {

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

}  // namespace segmamba::kernels
