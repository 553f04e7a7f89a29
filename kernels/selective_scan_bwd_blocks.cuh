#pragma once
// The backward's second kernel: the gradients of a segment that knows what it receives.

#include "selective_scan_adjoint_blocks.cuh"

namespace segmamba::kernels {

// The gradients of a segment, chunk by chunk from its end. A chunk's states are formed again from
// its checkpoint: a first walk keeps the state at the start of every span of kSpan steps in shared
// memory, then span by span from the last one the states are walked once more into registers and
// the steps taken back.
//
// Each thread holds a square of four channels by four states, so that of the sums over channels
// (dB, dC) and over states (d(delta x), d(delta)) a part is formed in registers; the rest passes
// through memory that a warp shares. What belongs to a channel alone is loaded, and its gradients
// are stored, by the thread whose number is the channel's; a warp owns its 32 channels.
template <class T>
struct SegmentBackward {
  using S = State<T>;
  using Params = BackwardParams<T>;
  static constexpr int kMaxThreads = kBlockChannels<S>;
  static constexpr int kMinBlocks = sizeof(S) == 8 ? 1 : 2;
  static constexpr int kSpan = sizeof(S) == 8 ? 4 : 8;
  static constexpr int kSpans = kCudaChunk / kSpan;
  static constexpr int kHalf = kSpan / 2;  // steps after which channels are stored
  static constexpr int kSquare = 16;
  static constexpr int kWarps = kMaxThreads / kWarp;
  static constexpr int kFoursOfWarp = kWarp / 4;  // of channels
  // What the threads of a warp contribute, four numbers each, to sums over its channels (of four
  // states) or over the states (of four channels). The paddings keep apart the banks of those that
  // are read together.
  struct Parts {
    Four<S> of[kFoursOfWarp][kFours + 1];
    S padding[16];
  };
  struct Registers {
    S a_log2e[kSquare];   // [channel][state], as all squares
    S start[kSquare];     // the state before the span
    S h[kSpan][kSquare];  // h[i] is the state after step i of the span
    S g[kSquare];
    S dA[kSquare];
  };
  struct Shared {
    Four<S> starts[kSpans][4][kMaxThreads];
    Four<S> rows[kSpan][2 * kFours];  // B, then C
    // Of a channel at a step of the span.
    S delta[kSpan][kMaxThreads], input[kSpan][kMaxThreads], gy[kSpan][kMaxThreads];
    S x[kSpan][kMaxThreads], slope[kSpan][kMaxThreads];  // slope: of softplus
    Parts over_channels[2][kWarps][2];                   // dB, dC of a step
    Parts over_states[kHalf][kWarps][2];                 // input_grad, decay_grad of StepAdjoint
    S dBC[kSpan][kWarps][2 * kSliceStates];              // summed over the channels of a warp
    std::int32_t token[kCudaChunk];
    // What a thread keeps of its channel: registers are for the squares.
    Channel<T> channel[kMaxThreads];
    S dD[kMaxThreads], dbias[kMaxThreads];
    Place place;
  };

  template <class Block>
  SEGMAMBA_HD static void run(const Params& p, const Place& of_grid, Block& block) {
    const DeviceScan<T>& scan = p.scan;
    block.each([&](int thread, Registers& r) { begin(p, of_grid, block, thread, r); });
    const Place& place = block.shared().place;
    for (int chunk = scan.last_chunk(place); chunk >= scan.first_chunk(place); --chunk) {
      stage_tokens(block, scan, place, chunk);
      block.each_alone([&](int of_block, Registers& r) {
        const int thread = opaque(of_block);
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
          if (i % kHalf == 0) {
            block.each_warp([&](int thread, Registers&) {
              store_channel(p, block.shared(), span, i, count, thread);
            });
          }
        }
        block.each([](int, Registers&) {});
        block.each(
            [&](int thread, Registers& r) { store_rows(p, place, block, span, count, thread); });
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

  template <class Block>
  SEGMAMBA_HD static void begin(const Params& p, const Place& place, Block& block, int thread,
                                Registers& r) {
    const DeviceScan<T>& scan = p.scan;
    const int threads = block.threads();
    Channel<T> c;
    c.begin(scan, place, thread, threads);
    block.shared().channel[thread] = c;
    if (thread == 0) block.shared().place = place;
    block.shared().dD[thread] = block.shared().dbias[thread] = 0;
    for_square([&](int j, int m) {
      const int n = 4 * quad(thread) + m, d = place.tile * threads + four(thread) + j;
      const bool used = n < scan.states && d < scan.shape().channels;
      r.a_log2e[4 * j + m] = load_a_log2e(scan, c.k, n, d);
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
    block.each([&](int of_block, Registers&) {
      const int thread = opaque(of_block);
      Shared& shared = block.shared();
      const Channel<T> c = shared.channel[thread];
      const std::int32_t* const token = shared.token + span * kSpan;
      const T* const x_rows = c.rows(scan.in.x);
      const T* const raw_rows = c.rows(scan.in.delta);
      S x[kSpan], delta[kSpan];
      SEGMAMBA_UNROLL
      for (int i = 0; i < kSpan; ++i) {
        x[i] = to_state(*row_at(x_rows, token[i], scan.in.x.token));
        delta[i] = to_state(*row_at(raw_rows, token[i], scan.in.delta.token));
      }
      S gy[kSpan], slope[kSpan];
      if (kBack) load_gradient_of_y(p, c, token, count, gy);
      delta_of_tile(scan, c.bias, c.active ? count : 0, delta, kBack ? slope : nullptr);
      SEGMAMBA_UNROLL
      for (int i = 0; i < kSpan; ++i) {
        shared.delta[i][thread] = delta[i];
        shared.input[i][thread] = delta[i] * x[i];
        if (!kBack) continue;
        shared.gy[i][thread] = gy[i];
        shared.x[i][thread] = x[i];
        shared.slope[i][thread] = slope[i];
      }
      stage_rows<2>(scan, scan.in.B, scan.in.C, c, token, thread, block.threads(), count,
                    shared.rows);
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
    const Four<S> B = shared.rows[i][quad(thread)];
    for_square([&](int j, int m) {
      const int e = 4 * j + m;
      after[e] = advance(before[e], decay_of(delta.v[j], r.a_log2e[e]), input.v[j], B.v[m]);
    });
  }

  // Takes step i of the span back.
  template <class Block>
  SEGMAMBA_HD static void step_back(Block& block, int i) {
    Shared& shared = block.shared();
    block.each_warp([&](int thread, Registers& r) {
      const Four<S> delta = four_channels(shared.delta[i], thread);
      const Four<S> input = four_channels(shared.input[i], thread);
      const Four<S> gy = four_channels(shared.gy[i], thread);
      const Four<S> B = shared.rows[i][quad(thread)], C = shared.rows[i][kFours + quad(thread)];
      Four<S> dB{}, dC{}, input_grad, decay_grad;
      SEGMAMBA_UNROLL
      for (int j = 0; j < 4; ++j) {
        StepAdjoint<S> adjoint{gy.v[j], input.v[j], delta.v[j]};
        SEGMAMBA_UNROLL
        for (int m = 0; m < 4; ++m) {
          const int e = 4 * j + m;
          adjoint.template state<true>(r.a_log2e[e], decay_of(delta.v[j], r.a_log2e[e]),
                                       i > 0 ? r.h[i - 1][e] : r.start[e], r.h[i][e], B.v[m],
                                       C.v[m], r.g[e], r.dA[e], dB.v[m], dC.v[m]);
        }
        input_grad.v[j] = adjoint.input_grad;
        decay_grad.v[j] = adjoint.decay_grad;
      }
      const int warp = thread / kWarp, of_warp = thread % kWarp / 4;
      // Two steps share the buffer by turns, so that one barrier a step is enough.
      auto& over_channels = shared.over_channels[i % 2][warp];
      over_channels[0].of[of_warp][quad(thread)] = dB;
      over_channels[1].of[of_warp][quad(thread)] = dC;
      shared.over_states[i % kHalf][warp][0].of[of_warp][quad(thread)] = input_grad;
      shared.over_states[i % kHalf][warp][1].of[of_warp][quad(thread)] = decay_grad;
    });
    // A thread is left with dB or dC of one state, summed over the channels of the warp.
    block.each_alone([&](int thread, Registers&) {
      const int warp = thread / kWarp, lane = thread % kWarp, n = lane % kSliceStates;
      const auto& parts = shared.over_channels[i % 2][warp][lane / kSliceStates].of;
      S sum = parts[0][n / 4].v[n % 4];
      SEGMAMBA_UNROLL
      for (int f = 1; f < kFoursOfWarp; ++f) sum += parts[f][n / 4].v[n % 4];
      shared.dBC[i][warp][lane] = sum;
    });
  }

  SEGMAMBA_HD static S over_states(const Shared& shared, int i, int which, int thread) {
    const auto& parts = shared.over_states[i % kHalf][thread / kWarp][which].of[thread % kWarp / 4];
    S sum = parts[0].v[thread % 4];
    SEGMAMBA_UNROLL
    for (int q = 1; q < kFours; ++q) sum += parts[q].v[thread % 4];
    return sum;
  }

  // dx and d(delta) of half of the span's steps: each thread those of its channel.
  SEGMAMBA_HD static void store_channel(const Params& p, Shared& shared, int span, int first,
                                        int count, int thread) {
    const Channel<T> c = shared.channel[thread];
    if (!c.active) return;
    S dD = shared.dD[thread], dbias = shared.dbias[thread];
    const ScanShape& s = p.scan.shape();
    const bool adds = p.scan.first_state > 0;  // to the slices before
    const std::int64_t base =
        static_cast<std::int64_t>(c.k) * s.batch * s.length * s.channels + c.output(s);
    SEGMAMBA_UNROLL
    for (int i = first; i < first + kHalf; ++i) {
      if (i >= count) break;
      const S x = shared.x[i][thread], gy = shared.gy[i][thread];
      const StepAdjoint<S> adjoint{gy, shared.input[i][thread], shared.delta[i][thread],
                                   over_states(shared, i, 0, thread),
                                   over_states(shared, i, 1, thread)};
      S dx = adjoint.x_grad() + c.skip * gy;
      S ddelta = adjoint.delta_grad(x) * shared.slope[i][thread];
      dD += gy * x;
      dbias += ddelta;
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
    shared.dD[thread] = dD;
    shared.dbias[thread] = dbias;
  }

  // dB and dC of the span's steps: the sums over the block's warps, in order.
  template <class Block>
  SEGMAMBA_HD static void store_rows(const Params& p, const Place& place, Block& block, int span,
                                     int count, int thread) {
    const Shared& shared = block.shared();
    const ScanShape& s = p.scan.shape();
    const int lane = thread % kWarp, n = lane % kSliceStates, warps = block.threads() / kWarp;
    const bool is_C = lane >= kSliceStates;
    const std::int64_t rows = static_cast<std::int64_t>(place.sequence) * s.length;
    const std::int64_t all_rows = static_cast<std::int64_t>(s.directions) * s.batch * s.length;
    T* const result = (is_C ? p.grad.C : p.grad.B) + rows * s.states + p.scan.first_state + n;
    S* const of_tile =
        p.dBC ? p.dBC + (place.tile * all_rows + rows) * 2 * kSliceStates + lane : nullptr;
    for (int i = thread / kWarp; i < count; i += warps) {
      S sum = shared.dBC[i][0][lane];
      SEGMAMBA_UNROLL
      for (int warp = 1; warp < kWarps; ++warp) {
        if (warp < warps) sum += shared.dBC[i][warp][lane];
      }
      const std::int32_t token = shared.token[span * kSpan + i];
      if (of_tile) {
        *row_at(of_tile, token, 2 * kSliceStates) = sum;
      } else if (n < p.scan.states) {
        from_state(sum, *row_at(result, token, s.states));
      }
    }
  }

  template <class Block>
  SEGMAMBA_HD static void finish(const Params& p, const Place& place, Block& block, int of_block,
                                 Registers& r) {
    const DeviceScan<T>& scan = p.scan;
    const int thread = opaque(of_block);
    for_square([&](int j, int m) {
      const int n = 4 * quad(thread) + m, d = place.tile * block.threads() + four(thread) + j;
      if (n < scan.states && d < scan.shape().channels) {
        p.dA[scan.segment_state(place, n, d)] = r.dA[4 * j + m];
      }
    });
    const Channel<T> c = block.shared().channel[thread];
    if (!c.active) return;
    const S dbias = block.shared().dbias[thread];
    const std::int64_t at = scan.segment_channel(place, c.d);
    // D does not depend on the slice; the bias's gradient is a sum over slices.
    p.dD[at] = block.shared().dD[thread];
    p.dbias[at] = scan.first_state > 0 ? p.dbias[at] + dbias : dbias;
  }
};

}  // namespace segmamba::kernels
