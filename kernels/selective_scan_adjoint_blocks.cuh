#pragma once
// The backward's first kernel: what a segment passes back.

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
          stage_rows<1>(scan, scan.in.C, scan.in.C, r.c, token, thread, block.threads(), count,
                        block.shared().C);
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

}  // namespace segmamba::kernels
