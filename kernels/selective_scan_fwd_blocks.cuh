#pragma once
// The forward's kernel, for the sweep that finds where segments end and for those that give y.

#include "selective_scan_blocks.cuh"

namespace segmamba::kernels {

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
  static constexpr int kSets = kEmit ? 2 : 1;
  using S = State<T>;
  using Params = ForwardParams<T>;
  static constexpr int kMaxThreads = kBlockChannels<S>;
  static constexpr int kMinBlocks = sizeof(S) == 8        ? 1
                                    : kTo == Emit::kEnd   ? 6
                                    : kTo == Emit::kApart ? 5
                                                          : 4;
  struct Registers {
    Channel<T> c;
    S a_log2e[kSliceStates];
    S h[kSliceStates];
    S x[kTile], delta[kTile];  // x, then y
    S delta_sum;
  };
  struct Shared {
    Four<S> rows[kTile][kSets * kFours];  // B, then C where y is formed
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
    stage_rows<kSets>(p.scan, in.B, in.C, r.c, token, thread, threads, count, shared.rows);
    delta_of_tile(p.scan, r.c.bias, count, r.delta);
  }

  SEGMAMBA_HD static void step(int i, const Shared& shared, Registers& r) {
    const S delta = r.delta[i];
    const S input = delta * r.x[i];
    S y = r.c.skip * r.x[i];
    SEGMAMBA_UNROLL
    for (int four = 0; four < kFours; ++four) {
      const Four<S> B = shared.rows[i][four];
      Four<S> C;
      if (kEmit) C = shared.rows[i][kFours + four];
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

}  // namespace segmamba::kernels
