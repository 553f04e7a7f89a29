#pragma once
// The causal convolution on the GPU as kernels (see cuda_blocks.h). A thread walks one channel
// through a span of steps, with the taps' window in registers.

#include <type_traits>

#include "causal_conv1d.h"
#include "cuda_blocks.h"
#include "selective_scan_math.cuh"

namespace segmamba::kernels {

inline constexpr int kConvThreads = 3 * kWarp;
inline constexpr int kConvLargestSpan = 512;

// Spans short enough for the blocks to fill a GPU, and long enough for the halo and the partial
// sums of the weights' gradients to be small beside them. Follows from the shape alone.
struct ConvPlan {
  ConvPlan(const ConvShape& s, int sequences)
      : tiles(divide_up(s.channels, kConvThreads)),
        threads(divide_up(divide_up(s.channels, tiles), kWarp) * kWarp) {
    constexpr int kWantedBlocks = 1024, kSmallestSpan = 64;
    const int wanted = divide_up(kWantedBlocks, static_cast<std::int64_t>(sequences) * tiles);
    span = divide_up(divide_up(s.length, wanted), kSmallestSpan) * kSmallestSpan;
    if (span > kConvLargestSpan) span = kConvLargestSpan;
    spans = divide_up(s.length, span);
  }
  int tiles, threads, span, spans;
};

template <class T>
struct ConvParams {
  ConvParams(const ConvInputs<T>& inputs, int span_steps) : in(inputs), span(span_steps) {
    for (int k = 0; k < in.shape.directions; ++k) maps[k] = inputs.maps[k];
  }
  ConvInputs<T> in;  // in.maps is not used on the device
  ScanMap maps[kMaxDirections];
  int span;
  T* out = nullptr;
  ConvGradients<T> grad{};
  int spans = 0;
  State<T>* partial = nullptr;       // [K, B, spans, J + 1, D]: weights, then bias
  State<T>* sum = nullptr;           // [B, L, D], the gradient of x over directions so far:
  bool adds = false, keeps = false;  // whether it is read, and whether it is written
  bool finishes = false;             // whether grad.x is written
};

// A thread's channel. The window holds kTaps taps, the first of them zero where J < kTaps.
template <class T, int kTaps>
struct ConvChannel {
  using S = State<T>;
  bool active;
  int k, b, d;
  S weight[kTaps], bias;

  SEGMAMBA_HD void begin(const ConvParams<T>& p, const Place& place, int thread, int threads) {
    const ConvShape& s = p.in.shape;
    k = place.sequence / s.batch;
    b = place.sequence % s.batch;
    d = place.tile * threads + thread;
    active = d < s.channels;
    const std::int64_t channel = static_cast<std::int64_t>(k) * s.channels + d;
    bias = active ? p.in.bias[channel] : S(0);
    SEGMAMBA_UNROLL
    for (int j = 0; j < kTaps; ++j) {
      const int tap = j - (kTaps - s.taps);
      weight[j] = active && tap >= 0 ? p.in.weight[channel * s.taps + tap] : S(0);
    }
  }
  SEGMAMBA_HD S load_x(const ConvParams<T>& p, std::int32_t token) const {
    return token < 0 ? S(0) : to_state(p.in.x.row(0, b, token)[d]);
  }
  SEGMAMBA_HD std::int64_t output(const ConvShape& s, std::int32_t token) const {
    return ((static_cast<std::int64_t>(k) * s.batch + b) * s.length + token) * s.channels + d;
  }
  // Before the SiLU; x: the window that ends at the step.
  SEGMAMBA_HD S convolve(const S* x) const {
    S sum = bias;
    SEGMAMBA_UNROLL
    for (int j = 0; j < kTaps; ++j) sum += weight[j] * x[j];
    return sum;
  }
};

// Tokens of a span's steps with kMaxTaps steps on both sides; -1 where there is no such step.
struct ConvTokens {
  std::int32_t token[kConvLargestSpan + 2 * kMaxTaps];
  SEGMAMBA_HD std::int32_t of(int step) const { return token[kMaxTaps + step]; }
};

template <class Block, class T>
SEGMAMBA_HD void stage_conv_tokens(Block& block, const ConvParams<T>& p, const Place& place) {
  const ConvShape& s = p.in.shape;
  const ScanMap& map = p.maps[place.sequence / s.batch];
  block.each([&](int thread, typename Block::Registers&) {
    for (int i = thread; i < p.span + 2 * kMaxTaps; i += block.threads()) {
      const std::int64_t step = static_cast<std::int64_t>(place.segment) * p.span + i - kMaxTaps;
      block.shared().token[i] =
          step < 0 || step >= s.length ? -1 : map.token(static_cast<std::int32_t>(step));
    }
  });
}

inline constexpr int kConvTileSteps = 8;

template <class T, int kTaps>
struct ConvForward {
  using S = State<T>;
  using Params = ConvParams<T>;
  using Shared = ConvTokens;
  static constexpr int kMaxThreads = kConvThreads;
  static constexpr int kMinBlocks = 1;
  struct Registers {
    ConvChannel<T, kTaps> c;
    S x[kTaps - 1 + kConvTileSteps];
  };

  template <class Block>
  SEGMAMBA_HD static void run(const Params& p, const Place& place, Block& block) {
    stage_conv_tokens(block, p, place);
    block.each_alone([&](int thread, Registers& r) {
      r.c.begin(p, place, thread, block.threads());
      if (!r.c.active) return;
      const ConvTokens& tokens = block.shared();
      SEGMAMBA_UNROLL
      for (int j = 0; j < kTaps - 1; ++j) r.x[j] = r.c.load_x(p, tokens.of(j - (kTaps - 1)));
      for (int first = 0; first < p.span; first += kConvTileSteps) {
        SEGMAMBA_UNROLL
        for (int i = 0; i < kConvTileSteps; ++i) {
          r.x[kTaps - 1 + i] = r.c.load_x(p, tokens.of(first + i));
        }
        SEGMAMBA_UNROLL
        for (int i = 0; i < kConvTileSteps; ++i) {
          const std::int32_t token = tokens.of(first + i);
          if (token < 0) continue;
          from_state(silu(r.c.convolve(r.x + i)), p.out[r.c.output(p.in.shape, token)]);
        }
        SEGMAMBA_UNROLL
        for (int j = 0; j < kTaps - 1; ++j) r.x[j] = r.x[kConvTileSteps + j];
      }
    });
  }
};

// One direction a launch: each adds its share of x's gradient to that of those before it.
template <class T, int kTaps>
struct ConvBackward {
  using S = State<T>;
  using Params = ConvParams<T>;
  using Shared = ConvTokens;
  static constexpr int kMaxThreads = kConvThreads;
  static constexpr int kMinBlocks = 1;
  static constexpr int kHalo = kTaps - 1;
  struct Registers {
    ConvChannel<T, kTaps> c;
    S x[kHalo + kConvTileSteps];
    S ds[kHalo + kConvTileSteps];
    S dweight[kTaps], dbias;
  };

  template <class Block>
  SEGMAMBA_HD static void run(const Params& p, const Place& place, Block& block) {
    stage_conv_tokens(block, p, place);
    block.each_alone([&](int thread, Registers& r) {
      r.c.begin(p, place, thread, block.threads());
      if (!r.c.active) return;
      const ConvTokens& tokens = block.shared();
      r.dbias = 0;
      SEGMAMBA_UNROLL
      for (int j = 0; j < kTaps; ++j) r.dweight[j] = 0;
      SEGMAMBA_UNROLL
      for (int j = 0; j < kHalo; ++j) {
        r.x[j] = r.c.load_x(p, tokens.of(j - kHalo));
        r.ds[j] = 0;
      }
      // Steps behind the span read its x too, so that their ds is formed here as well.
      for (int first = 0; first < p.span + kHalo; first += kConvTileSteps) {
        walk_tile(p, tokens, first, r);
      }
      const ConvShape& s = p.in.shape;
      S* const to = p.partial +
                    (static_cast<std::int64_t>(place.sequence) * p.spans + place.segment) *
                        (s.taps + 1) * s.channels +
                    r.c.d;
      SEGMAMBA_UNROLL
      for (int j = 0; j < kTaps; ++j) {
        const int tap = j - (kTaps - s.taps);
        if (tap >= 0) to[static_cast<std::int64_t>(tap) * s.channels] = r.dweight[j];
      }
      to[static_cast<std::int64_t>(s.taps) * s.channels] = r.dbias;
    });
  }

 private:
  SEGMAMBA_HD static void walk_tile(const Params& p, const ConvTokens& tokens, int first,
                                    Registers& r) {
    const ConvShape& s = p.in.shape;
    S gradient[kConvTileSteps];
    SEGMAMBA_UNROLL
    for (int i = 0; i < kConvTileSteps; ++i) {
      const bool within = first + i < p.span + kHalo;
      const std::int32_t token = within ? tokens.of(first + i) : -1;
      r.x[kHalo + i] = r.c.load_x(p, token);
      gradient[i] = token < 0 ? S(0) : to_state(p.grad.out[r.c.output(s, token)]);
    }
    SEGMAMBA_UNROLL
    for (int i = 0; i < kConvTileSteps; ++i) {
      const S ds = gradient[i] * silu_slope(r.c.convolve(r.x + i));
      r.ds[kHalo + i] = ds;
      if (first + i < p.span) {
        r.dbias += ds;
        SEGMAMBA_UNROLL
        for (int j = 0; j < kTaps; ++j) r.dweight[j] += ds * r.x[i + j];
      }
      // All that reads x of kHalo steps ago is known now.
      const int step = first + i - kHalo;
      if (step < 0 || step >= p.span || tokens.of(step) < 0) continue;
      S dx = 0;
      SEGMAMBA_UNROLL
      for (int j = 0; j < kTaps; ++j) dx += r.c.weight[j] * r.ds[i + kHalo - j];
      const std::int64_t at =
          (static_cast<std::int64_t>(r.c.b) * s.length + tokens.of(step)) * s.channels + r.c.d;
      if (p.adds) dx += p.sum[at];
      if (p.keeps) p.sum[at] = dx;
      if (p.finishes) from_state(dx, p.grad.x[at]);
    }
    SEGMAMBA_UNROLL
    for (int j = 0; j < kHalo; ++j) {
      r.x[j] = r.x[kConvTileSteps + j];
      r.ds[j] = r.ds[kConvTileSteps + j];
    }
  }
};

// One item a weight or bias: the sum over batch items and spans in order. Row k * (J + 1) + j.
template <class T>
struct ConvWeightSum {
  using S = State<T>;
  using Params = ConvParams<T>;
  static std::int64_t rows(const ConvShape& s) {
    return static_cast<std::int64_t>(s.directions) * (s.taps + 1);
  }
  SEGMAMBA_HD static void run(const Params& p, std::int64_t row, int d) {
    const ConvShape& s = p.in.shape;
    const int k = static_cast<int>(row / (s.taps + 1)), j = static_cast<int>(row % (s.taps + 1));
    const std::int64_t pieces = static_cast<std::int64_t>(s.batch) * p.spans;
    const std::int64_t stride = static_cast<std::int64_t>(s.taps + 1) * s.channels;
    const S sum = strided_sum(p.partial + k * pieces * stride + j * s.channels + d, stride, pieces);
    const std::int64_t channel = static_cast<std::int64_t>(k) * s.channels + d;
    if (j < s.taps) {
      p.grad.weight[channel * s.taps + j] = sum;
    } else {
      p.grad.bias[channel] = sum;
    }
  }
};

inline std::size_t conv_partial_count(const ConvShape& s) {
  if (s.batch == 0 || s.length == 0) return 0;
  return static_cast<std::size_t>(s.directions) * s.batch * ConvPlan(s, s.batch).spans *
         (s.taps + 1) * s.channels;
}
inline std::size_t conv_backward_workspace(const ConvShape& s) {
  return conv_partial_count(s) +
         (s.directions > 1 ? static_cast<std::size_t>(s.batch) * s.length * s.channels : 0);
}

template <class T, class Launcher>
void launch_conv_forward(const ConvInputs<T>& in, T* out, const Launcher& launcher) {
  const ConvShape& s = in.shape;
  const ConvPlan plan(s, s.directions * s.batch);
  ConvParams<T> p(in, plan.span);
  p.out = out;
  const Grid grid{plan.spans, plan.tiles, s.directions * s.batch, 0, plan.threads};
  if (s.taps <= 4) {
    launcher.template blocks<ConvForward<T, 4>>(p, grid);
  } else {
    launcher.template blocks<ConvForward<T, kMaxTaps>>(p, grid);
  }
}

template <class T, class Launcher>
void launch_conv_backward(const ConvInputs<T>& in, const ConvGradients<T>& grad,
                          State<T>* workspace, const Launcher& launcher) {
  const ConvShape& s = in.shape;
  const ConvPlan plan(s, s.batch);
  ConvParams<T> p(in, plan.span);
  p.grad = grad;
  p.spans = plan.spans;
  p.partial = workspace;
  p.sum = grad.x_sum ? grad.x_sum : workspace + conv_partial_count(s);
  for (int k = 0; k < s.directions; ++k) {
    const bool last = k + 1 == s.directions;
    p.adds = k > 0 || grad.adds;
    p.keeps = !last || grad.x_sum;
    p.finishes = last && grad.x;
    const Grid grid{plan.spans, plan.tiles, s.batch, k * s.batch, plan.threads};
    if (s.taps <= 4) {
      launcher.template blocks<ConvBackward<T, 4>>(p, grid);
    } else {
      launcher.template blocks<ConvBackward<T, kMaxTaps>>(p, grid);
    }
  }
  launcher.template items<ConvWeightSum<T>>(p, ConvWeightSum<T>::rows(s), s.channels);
}

}  // namespace segmamba::kernels
