#pragma once
// The causal convolution's inner loops; see cpu_lanes_impl.h for what may stand here.

#include "lanes.h"
// selective_scan_math.cuh calls the functions of lanes.h, so it comes after it.
#include "cpu_lanes.h"
#include "selective_scan_math.cuh"

namespace segmamba::kernels {
namespace {

#define SEGMAMBA_INLINE_LAMBDA __attribute__((always_inline))

template <class T>
SEGMAMBA_LANES int conv_lanes_in_use(const ConvShape& s, const ConvChunk<T>& at) {
  return s.channels - at.channel < kLanes<T> ? s.channels - at.channel : kLanes<T>;
}

// x of steps [-history, end) behind J - 1 zeros or steps: x[i + J - 1] is step i's.
template <class T>
SEGMAMBA_LANES void load_conv_tile(const ConvInputs<T>& in, const ConvChunk<T>& at, int lanes,
                                   int end, Lanes<T>* x) {
  const T* const rows = in.x.row(0, at.batch, 0) + at.channel;
  const std::int64_t stride = in.x.token;
  const int before = in.shape.taps - 1;
  for (int i = -before; i < end; ++i) {
    x[i + before] = i < -at.history ? Lanes<T>{} : load(rows + at.tokens[i] * stride, lanes);
  }
}

// Calls take(i, result) for each step of the chunk.
template <class T, class Take>
SEGMAMBA_LANES void convolve(const ConvInputs<T>& in, const ConvChunk<T>& at, int lanes,
                             const Take& take) {
  using V = Lanes<T>;
  const ConvShape& s = in.shape;
  V x[kConvTile + kMaxTaps], weight[kMaxTaps];
  for (int j = 0; j < s.taps; ++j) weight[j] = load(at.weight + j * kLanes<T>);
  const V bias = load(at.bias);
  load_conv_tile(in, at, lanes, at.steps, x);
  for (int i = 0; i < at.steps; ++i) {
    V sum = bias;
    for (int j = 0; j < s.taps; ++j) sum += weight[j] * x[i + j];
    take(i, silu(sum));
  }
}

template <class T>
void conv_forward(const ConvInputs<T>& in, T* out, const ConvChunk<T>& at) {
  const ConvShape& s = in.shape;
  const int lanes = conv_lanes_in_use(s, at);
  const std::int64_t sequence = static_cast<std::int64_t>(at.direction) * s.batch + at.batch;
  convolve(in, at, lanes, [&](int i, Lanes<T> y) SEGMAMBA_INLINE_LAMBDA {
    store(out + (sequence * s.length + at.tokens[i]) * s.channels + at.channel, y, lanes);
  });
}

template <class T>
void conv_rows(const ConvInputs<T>& in, const ConvChunk<T>& at, State<T>* rows,
               std::int64_t stride) {
  convolve(in, at, conv_lanes_in_use(in.shape, at),
           [&](int i, Lanes<T> y) SEGMAMBA_INLINE_LAMBDA { store(rows + i * stride, y); });
}

template <class T>
void conv_backward(const ConvInputs<T>& in, const T* grad_out, const ConvChunk<T>& at,
                   State<T>* dx_rows, State<T>* dweight_total, State<T>* dbias_total, bool first) {
  using V = Lanes<T>;
  const ConvShape& s = in.shape;
  const int lanes = conv_lanes_in_use(s, at);
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
    const T* const gout = grad_out + (sequence * s.length + at.tokens[i]) * s.channels + at.channel;
    ds[i] = load(gout, lanes) * silu_slope(sum);
    if (i >= at.steps) continue;
    dbias += ds[i];
    for (int j = 0; j < s.taps; ++j) dweight[j] += ds[i] * x[i + j];
  }
  for (int i = 0; i < at.steps; ++i) {
    V dx{};
    for (int j = 0; j < s.taps; ++j) dx += weight[j] * ds[i + s.taps - 1 - j];
    State<T>* const to =
        dx_rows + (static_cast<std::int64_t>(at.batch) * s.length + at.tokens[i]) * s.channels +
        at.channel;
    store(to, first ? dx : load(to, lanes) + dx, lanes);
  }
  for (int j = 0; j < s.taps; ++j) store(dweight_total + j * kLanes<T>, dweight[j]);
  store(dbias_total, dbias);
}

}  // namespace
}  // namespace segmamba::kernels
