#pragma once
// Included by cpu_lanes_<set>.cpp only, each compiled for its own instruction set. Nothing here may
// have external linkage or call inline functions that do (std::min, std::vector): the linker keeps
// one copy of those, and it could be the one with instructions that this processor lacks.

#include "lanes.h"
// selective_scan_math.cuh calls the functions of lanes.h, so it comes after it.
#include "cpu_lanes.h"
#include "selective_scan_math.cuh"

namespace segmamba::kernels {
namespace {

// N known at compile time where it is the usual 16.
template <int kStates>
SEGMAMBA_LANES int states_of(const ScanShape& shape) {
  return kStates > 0 ? kStates : shape.states;
}

template <class T>
SEGMAMBA_LANES int lanes_in_use(std::int32_t channels, int channel) {
  return channels - channel < kLanes<T> ? channels - channel : kLanes<T>;
}

// What one step needs of a vector of channels.
template <class T>
struct Token {
  Lanes<T> x, raw, delta;
};

template <class T>
SEGMAMBA_LANES Token<T> load_token(const ScanInputs<T>& in, const ScanChunk<T>& at, int lanes,
                                   Lanes<T> bias, std::int32_t token) {
  Token<T> t;
  t.x = load(in.x.row(at.direction, at.batch, token) + at.channel, lanes);
  t.raw = load(in.delta.row(at.direction, at.batch, token) + at.channel, lanes) + bias;
  t.delta = in.delta_softplus ? softplus(t.raw) : t.raw;
  return t;
}

template <class T>
SEGMAMBA_LANES std::int64_t output_row(const ScanShape& s, const ScanChunk<T>& at,
                                       std::int32_t token) {
  return (static_cast<std::int64_t>(at.batch) * s.length + token) * s.channels + at.channel;
}

template <class T, int kStates>
void scan_forward(const ScanInputs<T>& in, const ScanOutputs<T>& out, const ScanChunk<T>& at,
                  T* state) {
  using V = Lanes<T>;
  constexpr int kSlots = kStates > 0 ? kStates : kMaxStates;
  const int states = states_of<kStates>(in.shape);
  const int lanes = lanes_in_use<T>(in.shape.channels, at.channel);
  const V bias = load(at.bias);
  const V skip = load(at.skip);
  const bool first = at.direction == 0 && !out.adds;
  const bool last = at.direction + 1 == in.shape.directions && out.out;
  T* const sum = out.ungated ? out.ungated : out.out;
  V h[kSlots];
  for (int n = 0; n < states; ++n) h[n] = load(state + n * kLanes<T>);
  for (int i = 0; i < at.steps; ++i) {
    const std::int32_t token = at.tokens[i];
    const Token<T> t = load_token(in, at, lanes, bias, token);
    const T* const B = in.B.row(at.direction, at.batch, token);
    const T* const C = in.C.row(at.direction, at.batch, token);
    const V input = t.delta * t.x;
    // Two sums halve the chain of additions.
    V even = skip * t.x;
    V odd{};
#pragma GCC unroll 16
    for (int n = 0; n < states; ++n) {
      h[n] = advance(h[n], decay_of(t.delta, load(at.a_log2e + n * kLanes<T>)), input, B[n]);
      V& y = n % 2 ? odd : even;
      y += h[n] * C[n];
    }
    V y = even + odd;
    const std::int64_t row = output_row(in.shape, at, token);
    if (!first) y += load(sum + row, lanes);
    if (!last || out.ungated) store(sum + row, y, lanes);
    if (last) {
      if (in.z.data) y *= silu(load(in.z.row(0, at.batch, token) + at.channel, lanes));
      store(out.out + row, y, lanes);
    }
  }
  for (int n = 0; n < states; ++n) store(state + n * kLanes<T>, h[n]);
}

template <class T, int kStates>
void scan_state(const ScanInputs<T>& in, const ScanChunk<T>& at, T* state, T* delta_sum) {
  using V = Lanes<T>;
  constexpr int kSlots = kStates > 0 ? kStates : kMaxStates;
  const int states = states_of<kStates>(in.shape);
  const int lanes = lanes_in_use<T>(in.shape.channels, at.channel);
  const V bias = load(at.bias);
  V total = load(delta_sum);
  V h[kSlots];
  for (int n = 0; n < states; ++n) h[n] = load(state + n * kLanes<T>);
  for (int i = 0; i < at.steps; ++i) {
    const std::int32_t token = at.tokens[i];
    const Token<T> t = load_token(in, at, lanes, bias, token);
    const T* const B = in.B.row(at.direction, at.batch, token);
    const V input = t.delta * t.x;
#pragma GCC unroll 16
    for (int n = 0; n < states; ++n) {
      h[n] = advance(h[n], decay_of(t.delta, load(at.a_log2e + n * kLanes<T>)), input, B[n]);
    }
    total += t.delta;
  }
  for (int n = 0; n < states; ++n) store(state + n * kLanes<T>, h[n]);
  store(delta_sum, total);
}

// Gradient of y_t: that of `out` through the gate.
template <class T>
SEGMAMBA_LANES Lanes<T> gradient_of_y(const ScanInputs<T>& in, const ScanGradients<T>& grad,
                                      const ScanChunk<T>& at, int lanes, std::int32_t token) {
  const Lanes<T> gout = load(grad.out + output_row(in.shape, at, token), lanes);
  if (!in.z.data) return gout;
  return gout * silu(load(in.z.row(0, at.batch, token) + at.channel, lanes));
}

template <class T, int kStates>
void scan_adjoint(const ScanInputs<T>& in, const ScanGradients<T>& grad, const ScanChunk<T>& at,
                  T* gradient, T* delta_sum) {
  using V = Lanes<T>;
  constexpr int kSlots = kStates > 0 ? kStates : kMaxStates;
  const int states = states_of<kStates>(in.shape);
  const int lanes = lanes_in_use<T>(in.shape.channels, at.channel);
  const V bias = load(at.bias);
  V total = load(delta_sum);
  V g[kSlots];
  for (int n = 0; n < states; ++n) g[n] = load(gradient + n * kLanes<T>);
  for (int i = at.steps - 1; i >= 0; --i) {
    const std::int32_t token = at.tokens[i];
    const Token<T> t = load_token(in, at, lanes, bias, token);
    const V gy = gradient_of_y(in, grad, at, lanes, token);
    const T* const C = in.C.row(at.direction, at.batch, token);
#pragma GCC unroll 16
    for (int n = 0; n < states; ++n) {
      g[n] = (g[n] + gy * C[n]) * decay_of(t.delta, load(at.a_log2e + n * kLanes<T>));
    }
    total += t.delta;
  }
  for (int n = 0; n < states; ++n) store(gradient + n * kLanes<T>, g[n]);
  store(delta_sum, total);
}

template <class T, int kStates>
void scan_backward(const ScanInputs<T>& in, const ScanGradients<T>& grad, const ScanChunk<T>& at,
                   const T* start, T* gradient, T* dA_total, T* dD_total, T* dbias_total, T* dB,
                   T* dC, bool first) {
  using V = Lanes<T>;
  constexpr int kWidth = kLanes<T>;
  constexpr int kSlots = kStates > 0 ? (kStates + kWidth - 1) / kWidth * kWidth : kMaxStates;
  const int states = states_of<kStates>(in.shape);
  const int padded = (states + kWidth - 1) / kWidth * kWidth;
  const int lanes = lanes_in_use<T>(in.shape.channels, at.channel);
  const V bias = load(at.bias);
  const V skip = load(at.skip);

  // The states of this chunk again, from its start; h[i] is the state before step i.
  V h[kCpuChunk + 1][kSlots];
  V decay[kCpuChunk][kSlots];
  Token<T> tokens[kCpuChunk];
  for (int n = 0; n < states; ++n) h[0][n] = load(start + n * kWidth);
  for (int i = 0; i < at.steps; ++i) {
    const std::int32_t token = at.tokens[i];
    const Token<T> t = load_token(in, at, lanes, bias, token);
    const T* const B = in.B.row(at.direction, at.batch, token);
    const V input = t.delta * t.x;
#pragma GCC unroll 16
    for (int n = 0; n < states; ++n) {
      decay[i][n] = decay_of(t.delta, load(at.a_log2e + n * kWidth));
      h[i + 1][n] = advance(h[i][n], decay[i][n], input, B[n]);
    }
    tokens[i] = t;
  }

  V g[kSlots], dA[kSlots], rowB[kSlots], rowC[kSlots];
  for (int n = 0; n < padded; ++n) {
    g[n] = n < states ? load(gradient + n * kWidth) : V{};
    dA[n] = n < states ? load(dA_total + n * kWidth) : V{};
  }
  V dD = load(dD_total);
  V dbias = load(dbias_total);
  for (int i = at.steps - 1; i >= 0; --i) {
    const std::int32_t token = at.tokens[i];
    const Token<T>& t = tokens[i];
    const std::int64_t out_row = output_row(in.shape, at, token);
    V gy = load(grad.out + out_row, lanes);
    if (in.z.data) {
      const V z = load(in.z.row(0, at.batch, token) + at.channel, lanes);
      if (grad.z && at.direction == 0) {
        store(grad.z + out_row, gy * load(grad.ungated + out_row, lanes) * silu_slope(z), lanes);
      }
      gy *= silu(z);
    }
    const T* const B = in.B.row(at.direction, at.batch, token);
    const T* const C = in.C.row(at.direction, at.batch, token);
    StepAdjoint<V> step{gy, t.delta * t.x, t.delta};
#pragma GCC unroll 16
    for (int n = 0; n < states; ++n) {
      step.state(load(at.a_log2e + n * kWidth), decay[i][n], h[i][n], h[i + 1][n], B[n], C[n], g[n],
                 dA[n], rowB[n], rowC[n]);
    }
    for (int n = states; n < padded; ++n) rowB[n] = rowC[n] = V{};
    for (int n = 0; n < padded; n += kWidth) {
      T* const toB = dB + i * padded + n;
      T* const toC = dC + i * padded + n;
      const V sumB = sum_each(rowB + n);
      const V sumC = sum_each(rowC + n);
      store(toB, first ? sumB : load(toB) + sumB);
      store(toC, first ? sumC : load(toC) + sumC);
    }
    V ddelta = step.delta_grad(t.x);
    if (in.delta_softplus) ddelta *= sigmoid(t.raw);
    dD += gy * t.x;
    dbias += ddelta;
    const std::int64_t row = static_cast<std::int64_t>(at.direction) * in.shape.batch *
                                 in.shape.length * in.shape.channels +
                             out_row;
    store(grad.x + row, step.x_grad() + skip * gy, lanes);
    store(grad.delta + row, ddelta, lanes);
  }
  for (int n = 0; n < states; ++n) {
    store(gradient + n * kWidth, g[n]);
    store(dA_total + n * kWidth, dA[n]);
  }
  store(dD_total, dD);
  store(dbias_total, dbias);
}

template <class T>
SEGMAMBA_LANES Lanes<T> load_conv_input(const ConvInputs<T>& in, const ConvChunk<T>& at, int lanes,
                                        int i) {
  return load(in.x.row(0, at.batch, at.tokens[i]) + at.channel, lanes);
}

// x of steps [-history, end) behind J - 1 zeros or steps: x[i + J - 1] is step i's.
template <class T>
SEGMAMBA_LANES void load_conv_tile(const ConvInputs<T>& in, const ConvChunk<T>& at, int lanes,
                                   int end, Lanes<T>* x) {
  const int before = in.shape.taps - 1;
  for (int i = -before; i < end; ++i) {
    x[i + before] = i < -at.history ? Lanes<T>{} : load_conv_input(in, at, lanes, i);
  }
}

template <class T>
void conv_forward(const ConvInputs<T>& in, T* out, const ConvChunk<T>& at) {
  using V = Lanes<T>;
  const ConvShape& s = in.shape;
  const int lanes = lanes_in_use<T>(s.channels, at.channel);
  V x[kConvTile + kMaxTaps], weight[kMaxTaps];
  for (int j = 0; j < s.taps; ++j) weight[j] = load(at.weight + j * kLanes<T>);
  const V bias = load(at.bias);
  load_conv_tile(in, at, lanes, at.steps, x);
  const std::int64_t sequence = static_cast<std::int64_t>(at.direction) * s.batch + at.batch;
  for (int i = 0; i < at.steps; ++i) {
    V sum = bias;
    for (int j = 0; j < s.taps; ++j) sum += weight[j] * x[i + j];
    store(out + (sequence * s.length + at.tokens[i]) * s.channels + at.channel, silu(sum), lanes);
  }
}

template <class T>
void conv_backward(const ConvInputs<T>& in, const ConvGradients<T>& grad, const ConvChunk<T>& at,
                   T* dweight_total, T* dbias_total, bool first) {
  using V = Lanes<T>;
  const ConvShape& s = in.shape;
  const int lanes = lanes_in_use<T>(s.channels, at.channel);
  V x[kConvTile + 2 * kMaxTaps], ds[kConvTile + kMaxTaps], weight[kMaxTaps], dweight[kMaxTaps];
  for (int j = 0; j < s.taps; ++j) {
    weight[j] = load(at.weight + j * kLanes<T>);
    dweight[j] = load(dweight_total + j * kLanes<T>);
  }
  const V bias = load(at.bias);
  V dbias = load(dbias_total);
  load_conv_tile(in, at, lanes, at.steps + at.future, x);
  const std::int64_t sequence = static_cast<std::int64_t>(at.direction) * s.batch + at.batch;
  // Steps after this chunk read its x too, so their ds is formed here as well.
  for (int i = 0; i < at.steps + s.taps - 1; ++i) {
    ds[i] = V{};
    if (i >= at.steps + at.future) continue;
    V sum = bias;
    for (int j = 0; j < s.taps; ++j) sum += weight[j] * x[i + j];
    const T* const gout = grad.out + (sequence * s.length + at.tokens[i]) * s.channels + at.channel;
    ds[i] = load(gout, lanes) * silu_slope(sum);
    if (i >= at.steps) continue;
    dbias += ds[i];
    for (int j = 0; j < s.taps; ++j) dweight[j] += ds[i] * x[i + j];
  }
  for (int i = 0; i < at.steps; ++i) {
    V dx{};
    for (int j = 0; j < s.taps; ++j) dx += weight[j] * ds[i + s.taps - 1 - j];
    T* const to = grad.x +
                  (static_cast<std::int64_t>(at.batch) * s.length + at.tokens[i]) * s.channels +
                  at.channel;
    store(to, first ? dx : load(to, lanes) + dx, lanes);
  }
  for (int j = 0; j < s.taps; ++j) store(dweight_total + j * kLanes<T>, dweight[j]);
  store(dbias_total, dbias);
}

template <class T>
void scan_forward_any(const ScanInputs<T>& in, const ScanOutputs<T>& out, const ScanChunk<T>& at,
                      T* state) {
  in.shape.states == 16 ? scan_forward<T, 16>(in, out, at, state)
                        : scan_forward<T, 0>(in, out, at, state);
}
template <class T>
void scan_state_any(const ScanInputs<T>& in, const ScanChunk<T>& at, T* state, T* delta_sum) {
  in.shape.states == 16 ? scan_state<T, 16>(in, at, state, delta_sum)
                        : scan_state<T, 0>(in, at, state, delta_sum);
}
template <class T>
void scan_adjoint_any(const ScanInputs<T>& in, const ScanGradients<T>& grad, const ScanChunk<T>& at,
                      T* g, T* delta_sum) {
  in.shape.states == 16 ? scan_adjoint<T, 16>(in, grad, at, g, delta_sum)
                        : scan_adjoint<T, 0>(in, grad, at, g, delta_sum);
}
template <class T>
void scan_backward_any(const ScanInputs<T>& in, const ScanGradients<T>& grad,
                       const ScanChunk<T>& at, const T* start, T* g, T* dA, T* dD, T* dbias, T* dB,
                       T* dC, bool first) {
  in.shape.states == 16 ? scan_backward<T, 16>(in, grad, at, start, g, dA, dD, dbias, dB, dC, first)
                        : scan_backward<T, 0>(in, grad, at, start, g, dA, dD, dbias, dB, dC, first);
}

}  // namespace

namespace SEGMAMBA_SET {

template <class T>
const CpuLanes<T>& cpu_lanes() {
  static constexpr CpuLanes<T> lanes{SEGMAMBA_SET_NAME, kLanes<T>,           scan_forward_any<T>,
                                     scan_state_any<T>, scan_adjoint_any<T>, scan_backward_any<T>,
                                     conv_forward<T>,   conv_backward<T>};
  return lanes;
}

template const CpuLanes<float>& cpu_lanes<float>();
template const CpuLanes<double>& cpu_lanes<double>();

}  // namespace SEGMAMBA_SET
}  // namespace segmamba::kernels
