#pragma once
// The scan's inner loops; see cpu_lanes_impl.h for what may stand here.
//
// A chunk is treated in three passes: its rows are loaded and delta is formed; group by group of
// states the recurrence runs through all its steps, so that a group's states stay in registers;
// results are stored. The first and the last pass keep many loads in flight, and the long one in
// the middle prefetches what the next chunk will load.

#include "lanes.h"
// selective_scan_math.cuh calls the functions of lanes.h, so it comes after it.
#include "cpu_lanes.h"
#include "cpu_lanes_conv.h"
#include "selective_scan_math.cuh"

namespace segmamba::kernels {
namespace {

#define SEGMAMBA_GROUP_LOOP _Pragma("GCC unroll 4")

template <class T>
SEGMAMBA_LANES int lanes_in_use(std::int32_t channels, int channel) {
  return channels - channel < kLanes<T> ? channels - channel : kLanes<T>;
}

// What to prefetch of an array, one vector of channels a step of a loop.
struct Ahead {
  const char* data;
  std::int64_t row, number;  // in bytes
  const std::int32_t *token, *channel;

  SEGMAMBA_LANES void operator()(int i) const {
    __builtin_prefetch(data + token[i] * row + channel[i] * number, 0, 2);
  }
};

// One vector of channels of every token's row.
template <class T>
struct Column {
  T* data;
  std::int64_t stride;
  int lanes;

  using V = Lanes<std::remove_const_t<T>>;

  SEGMAMBA_LANES V load(std::int32_t token) const {
    return kernels::load(data + token * stride, lanes);
  }
  SEGMAMBA_LANES void store(std::int32_t token, V v) const {
    kernels::store(data + token * stride, v, lanes);
  }
};

// What a call knows of where it works.
template <class T>
struct ScanColumns {
  using S = State<T>;
  SEGMAMBA_LANES ScanColumns(const ScanInputs<T>& in, const ScanChunk<T>& at)
      : shape(in.shape),
        lanes(lanes_in_use<T>(in.shape.channels, at.channel)),
        sequence(static_cast<std::int64_t>(at.direction) * in.shape.batch + at.batch),
        batch(at.batch),
        channel(at.channel),
        ahead_token(at.ahead_token),
        ahead_channel(at.ahead_channel),
        x(rows(in.x, at)),
        delta(rows(in.delta, at)),
        z{in.z.data ? in.z.row(0, at.batch, 0) + at.channel : x.data,
          in.z.data ? in.z.token : x.stride, lanes} {}

  // Of buffers [K, B, L, D] and [B, L, D], which may be nullptr.
  template <class U>
  SEGMAMBA_LANES Column<U> of_sequence(U* data) const {
    return column(data, sequence);
  }
  template <class U>
  SEGMAMBA_LANES Column<U> of_batch(U* data) const {
    return column(data, batch);
  }

  // Of a column's array; of x where there is no such array.
  template <class U>
  SEGMAMBA_LANES Ahead ahead(const Column<U>& column) const {
    return column.data ? rows_ahead(column) : rows_ahead(x);
  }

  const ScanShape& shape;
  int lanes;
  std::int64_t sequence;
  int batch, channel;
  const std::int32_t *ahead_token, *ahead_channel;
  Column<const T> x, delta;
  Column<const T> z;  // x again where there is no gate

 private:
  template <class U>
  SEGMAMBA_LANES Ahead rows_ahead(const Column<U>& column) const {
    constexpr std::int64_t kSize = sizeof(U);
    return {reinterpret_cast<const char*>(column.data), column.stride * kSize, kSize, ahead_token,
            ahead_channel};
  }
  template <class U>
  SEGMAMBA_LANES Column<U> column(U* data, std::int64_t item) const {
    return {data ? data + item * shape.length * shape.channels + channel : nullptr, shape.channels,
            lanes};
  }
  SEGMAMBA_LANES Column<const T> rows(const Rows<const T>& from, const ScanChunk<T>& at) const {
    return {from.row(at.direction, at.batch, 0) + at.channel, from.token, lanes};
  }
};

// What the recurrence of a chunk starts from, and y as it leaves it.
template <class T>
struct ScanSteps {
  Lanes<T> delta[kCpuChunk], input[kCpuChunk];  // input = delta x
  Lanes<T> y[kCpuChunk];

  SEGMAMBA_LANES void set(int i, Lanes<T> x, Lanes<T> raw_delta, Lanes<T> skip, bool softplus_it) {
    delta[i] = softplus_it ? softplus(raw_delta) : raw_delta;
    input[i] = delta[i] * x;
    y[i] = skip * x;
  }
};

// The second and third pass of the forward. `own` are the two streams of the caller's first pass.
template <class T>
SEGMAMBA_LANES void advance_chunk(const ScanInputs<T>& in, const ScanOutputs<T>& out,
                                  const ScanChunk<T>& at, const ScanColumns<T>& columns,
                                  const Ahead (&own)[2], ScanSteps<T>& step, State<T>* sum,
                                  State<T>* state) {
  using V = Lanes<T>;
  constexpr int W = kLanes<T>;
  V* const y = step.y;
  const auto sums = columns.of_batch(sum);
  const bool first = at.direction == 0 && !out.adds;
  const bool last = at.direction + 1 == in.shape.directions && out.out;
  const Ahead streams[] = {own[0], own[1], columns.ahead(sums),
                           columns.ahead(last ? columns.z : columns.x)};
  for (int n = 0; n < at.states; n += kStateGroup) {
    const Ahead next = streams[n / kStateGroup % 4];
    V h[kStateGroup], a[kStateGroup];
    SEGMAMBA_GROUP_LOOP
    for (int m = 0; m < kStateGroup; ++m) {
      h[m] = load(state + (n + m) * W);
      a[m] = load(at.a_log2e + (n + m) * W);
    }
    for (int i = 0; i < at.steps; ++i) {
      const State<T>* const B = at.B + i * at.states + n;
      const State<T>* const C = at.C + i * at.states + n;
      V total = y[i];
      SEGMAMBA_GROUP_LOOP
      for (int m = 0; m < kStateGroup; ++m) {
        h[m] = advance(h[m], decay_of(step.delta[i], a[m]), step.input[i], B[m]);
        total += h[m] * C[m];
      }
      y[i] = total;
      next(i);
    }
    SEGMAMBA_GROUP_LOOP
    for (int m = 0; m < kStateGroup; ++m) store(state + (n + m) * W, h[m]);
  }
  const auto outputs = columns.of_batch(out.out);
  for (int i = 0; i < at.steps; ++i) {
    const std::int32_t token = at.tokens[i];
    if (!first) y[i] += sums.load(token);
    if (!last || out.ungated) sums.store(token, y[i]);
    if (last) outputs.store(token, in.z.data ? y[i] * silu(columns.z.load(token)) : y[i]);
  }
}

template <class T>
void scan_forward(const ScanInputs<T>& in, const ScanOutputs<T>& out, const ScanChunk<T>& at,
                  State<T>* sum, State<T>* state) {
  const ScanColumns<T> columns(in, at);
  const Lanes<T> bias = load(at.bias), skip = load(at.skip);
  ScanSteps<T> step;
  for (int i = 0; i < at.steps; ++i) {
    step.set(i, columns.x.load(at.tokens[i]), columns.delta.load(at.tokens[i]) + bias, skip,
             in.delta_softplus);
  }
  const Ahead own[] = {columns.ahead(columns.x), columns.ahead(columns.delta)};
  advance_chunk(in, out, at, columns, own, step, sum, state);
}

template <class T>
void inner_forward(const ScanInputs<T>& in, const ScanOutputs<T>& out, const ScanChunk<T>& at,
                   const ConvInputs<T>& conv, const InnerChunk<T>& inner, State<T>* sum,
                   State<T>* state) {
  constexpr int W = kLanes<T>;
  const ScanColumns<T> columns(in, at);
  const Lanes<T> bias = load(at.bias), skip = load(at.skip);
  ScanSteps<T> step;
  convolve(conv, inner.conv, columns.lanes, [&](int i, Lanes<T> x) SEGMAMBA_INLINE_LAMBDA {
    Lanes<T> delta = bias;
    for (int r = 0; r < inner.rank; ++r) {
      delta += inner.dt[i * inner.rank + r] * load(inner.dt_proj + r * W);
    }
    step.set(i, x, delta, skip, in.delta_softplus);
  });
  const Ahead own[] = {columns.ahead(columns.x), columns.ahead(columns.x)};
  advance_chunk(in, out, at, columns, own, step, sum, state);
}

template <class T>
void scan_state(const ScanInputs<T>& in, const ScanChunk<T>& at, State<T>* state,
                State<T>* delta_sum) {
  using V = Lanes<T>;
  constexpr int W = kLanes<T>;
  const ScanColumns<T> columns(in, at);
  const V bias = load(at.bias);
  V delta[kCpuChunk], input[kCpuChunk];  // input = delta x
  V total = load(delta_sum);
  for (int i = 0; i < at.steps; ++i) {
    const V raw = columns.delta.load(at.tokens[i]) + bias;
    delta[i] = in.delta_softplus ? softplus(raw) : raw;
    input[i] = delta[i] * columns.x.load(at.tokens[i]);
    total += delta[i];
  }
  store(delta_sum, total);
  const Ahead streams[] = {columns.ahead(columns.x), columns.ahead(columns.delta)};
  for (int n = 0; n < at.states; n += kStateGroup) {
    const Ahead next = streams[n / kStateGroup % 2];
    V h[kStateGroup], a[kStateGroup];
    SEGMAMBA_GROUP_LOOP
    for (int m = 0; m < kStateGroup; ++m) {
      h[m] = load(state + (n + m) * W);
      a[m] = load(at.a_log2e + (n + m) * W);
    }
    for (int i = 0; i < at.steps; ++i) {
      const State<T>* const B = at.B + i * at.states + n;
      SEGMAMBA_GROUP_LOOP
      for (int m = 0; m < kStateGroup; ++m) {
        h[m] = advance(h[m], decay_of(delta[i], a[m]), input[i], B[m]);
      }
      next(i);
    }
    SEGMAMBA_GROUP_LOOP
    for (int m = 0; m < kStateGroup; ++m) store(state + (n + m) * W, h[m]);
  }
}

// Gradient of y_t: that of `out` through the gate.
template <class T>
SEGMAMBA_LANES Lanes<T> gradient_of_y(const ScanInputs<T>& in, const ScanColumns<T>& columns,
                                      const Column<const T>& grad_out, std::int32_t token) {
  const Lanes<T> gout = grad_out.load(token);
  return in.z.data ? gout * silu(columns.z.load(token)) : gout;
}

template <class T>
void scan_adjoint(const ScanInputs<T>& in, const ScanGradients<T>& grad, const ScanChunk<T>& at,
                  State<T>* gradient, State<T>* delta_sum) {
  using V = Lanes<T>;
  constexpr int W = kLanes<T>;
  const ScanColumns<T> columns(in, at);
  const auto grad_out = columns.of_batch(grad.out);
  const V bias = load(at.bias);
  V delta[kCpuChunk], gy[kCpuChunk];
  V total = load(delta_sum);
  for (int i = at.steps - 1; i >= 0; --i) {
    const V raw = columns.delta.load(at.tokens[i]) + bias;
    delta[i] = in.delta_softplus ? softplus(raw) : raw;
    gy[i] = gradient_of_y(in, columns, grad_out, at.tokens[i]);
    total += delta[i];
  }
  store(delta_sum, total);
  const Ahead streams[] = {columns.ahead(columns.delta), columns.ahead(grad_out),
                           columns.ahead(columns.z)};
  for (int n = 0; n < at.states; n += kStateGroup) {
    const Ahead next = streams[n / kStateGroup % 3];
    V g[kStateGroup], a[kStateGroup];
    SEGMAMBA_GROUP_LOOP
    for (int m = 0; m < kStateGroup; ++m) {
      g[m] = load(gradient + (n + m) * W);
      a[m] = load(at.a_log2e + (n + m) * W);
    }
    for (int i = at.steps - 1; i >= 0; --i) {
      const State<T>* const C = at.C + i * at.states + n;
      SEGMAMBA_GROUP_LOOP
      for (int m = 0; m < kStateGroup; ++m) {
        g[m] = (g[m] + gy[i] * C[m]) * decay_of(delta[i], a[m]);
      }
      next(i);
    }
    SEGMAMBA_GROUP_LOOP
    for (int m = 0; m < kStateGroup; ++m) store(gradient + (n + m) * W, g[m]);
  }
}

// Steps whose dB and dC of a group of states fill a vector.
template <class T>
inline constexpr int kTileSteps = kLanes<T> > kStateGroup ? kLanes<T> / kStateGroup : 1;

template <class T>
void scan_backward(const ScanInputs<T>& in, const ScanGradients<T>& grad, const ScanChunk<T>& at,
                   const State<T>* start, State<T>* gradient, State<T>* dA_total,
                   State<T>* dD_total, State<T>* dbias_total, State<T>* dB, State<T>* dC,
                   bool first) {
  using V = Lanes<T>;
  constexpr int W = kLanes<T>;
  constexpr int kTile = kTileSteps<T>;
  constexpr int kTileSums = kTile * kStateGroup;
  const ScanColumns<T> columns(in, at);
  const auto grad_out = columns.of_batch(grad.out);
  const V bias = load(at.bias), skip = load(at.skip);
  // Steps that fill the last tile are zeros, which leave states and gradients as they are.
  const int tiles = (at.steps + kTile - 1) / kTile;

  V delta[kCpuChunk], input[kCpuChunk];  // input = delta x
  V x[kCpuChunk], slope[kCpuChunk], gy[kCpuChunk];
  const bool wants_dz = in.z.data && grad.z && at.direction == 0;
  const auto ungated = columns.of_batch(wants_dz ? grad.ungated : nullptr);
  const auto dz = columns.of_batch(wants_dz ? grad.z : nullptr);
  for (int i = 0; i < at.steps; ++i) {
    const std::int32_t token = at.tokens[i];
    x[i] = columns.x.load(token);
    const V raw = columns.delta.load(token) + bias;
    delta[i] = in.delta_softplus ? softplus_and_slope(raw, slope[i]) : raw;
    input[i] = delta[i] * x[i];
    gy[i] = grad_out.load(token);
    if (!in.z.data) continue;
    const V z = columns.z.load(token);
    const V gate = sigmoid(z);
    if (wants_dz) dz.store(token, gy[i] * ungated.load(token) * silu_slope(z, gate));
    gy[i] *= z * gate;
  }
  for (int i = at.steps; i < tiles * kTile; ++i) delta[i] = input[i] = gy[i] = V{};

  // Summed over states; see StepAdjoint.
  V input_grad[kCpuChunk] = {}, decay_grad[kCpuChunk] = {};
  const auto dx = columns.of_sequence(grad.x), ddelta = columns.of_sequence(grad.delta);
  const Ahead streams[] = {columns.ahead(columns.x), columns.ahead(columns.delta),
                           columns.ahead(grad_out),  columns.ahead(columns.z),
                           columns.ahead(dx),        columns.ahead(ddelta),
                           columns.ahead(ungated),   columns.ahead(dz)};
  for (int n = 0; n < at.states; n += kStateGroup) {
    const Ahead next = streams[n / kStateGroup % 4], then = streams[4 + n / kStateGroup % 4];
    // The states of this chunk again, from its start; h[i] is the state before step i.
    V h[kCpuChunk + 1][kStateGroup], decay[kCpuChunk][kStateGroup];
    V a[kStateGroup], g[kStateGroup], dA[kStateGroup];
    SEGMAMBA_GROUP_LOOP
    for (int m = 0; m < kStateGroup; ++m) {
      a[m] = load(at.a_log2e + (n + m) * W);
      g[m] = load(start + (n + m) * W);
      h[0][m] = g[m];
    }
    for (int i = 0; i < tiles * kTile; ++i) {
      const State<T>* const B = at.B + i * at.states + n;
      SEGMAMBA_GROUP_LOOP
      for (int m = 0; m < kStateGroup; ++m) {
        decay[i][m] = decay_of(delta[i], a[m]);
        g[m] = advance(g[m], decay[i][m], input[i], B[m]);
        h[i + 1][m] = g[m];
      }
      next(i);
    }
    SEGMAMBA_GROUP_LOOP
    for (int m = 0; m < kStateGroup; ++m) {
      g[m] = load(gradient + (n + m) * W);
      dA[m] = load(dA_total + (n + m) * W);
    }
    for (int tile = tiles - 1; tile >= 0; --tile) {
      V rowB[kTileSums], rowC[kTileSums];
#pragma GCC unroll 4
      for (int s = kTile - 1; s >= 0; --s) {
        const int i = tile * kTile + s;
        const State<T>* const B = at.B + i * at.states + n;
        const State<T>* const C = at.C + i * at.states + n;
        StepAdjoint<V> step{gy[i], input[i], delta[i], input_grad[i], decay_grad[i]};
        SEGMAMBA_GROUP_LOOP
        for (int m = 0; m < kStateGroup; ++m) {
          step.state(a[m], decay[i][m], h[i][m], h[i + 1][m], B[m], C[m], g[m], dA[m],
                     rowB[s * kStateGroup + m], rowC[s * kStateGroup + m]);
        }
        then(i);
        input_grad[i] = step.input_grad;
        decay_grad[i] = step.decay_grad;
      }
      const std::int64_t sums = static_cast<std::int64_t>(tile) * kTile * at.states + n * kTile;
      for (int r = 0; r < kTileSums; r += W) {
        const V sumB = sum_each(rowB + r), sumC = sum_each(rowC + r);
        store(dB + sums + r, first ? sumB : load(dB + sums + r) + sumB);
        store(dC + sums + r, first ? sumC : load(dC + sums + r) + sumC);
      }
    }
    SEGMAMBA_GROUP_LOOP
    for (int m = 0; m < kStateGroup; ++m) {
      store(gradient + (n + m) * W, g[m]);
      store(dA_total + (n + m) * W, dA[m]);
    }
  }

  V dD = load(dD_total), dbias = load(dbias_total);
  for (int i = at.steps - 1; i >= 0; --i) {
    const StepAdjoint<V> step{gy[i], input[i], delta[i], input_grad[i], decay_grad[i]};
    V delta_grad = step.delta_grad(x[i]);
    if (in.delta_softplus) delta_grad *= slope[i];
    dD += gy[i] * x[i];
    dbias += delta_grad;
    dx.store(at.tokens[i], step.x_grad() + skip * gy[i]);
    ddelta.store(at.tokens[i], delta_grad);
  }
  store(dD_total, dD);
  store(dbias_total, dbias);
}

}  // namespace
}  // namespace segmamba::kernels
