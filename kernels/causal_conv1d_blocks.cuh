#pragma once
// The causal convolution on the GPU as independent items (see cuda_blocks.h).

#include "causal_conv1d.h"
#include "cuda_blocks.h"
#include "selective_scan_math.cuh"

namespace segmamba::kernels {

// Steps whose share of the weights' gradients one item sums.
inline constexpr int kConvSpan = 256;

template <class T>
struct ConvParams {
  explicit ConvParams(const ConvInputs<T>& inputs) : in(inputs) {
    for (int k = 0; k < in.shape.directions; ++k) maps[k] = inputs.maps[k];
  }
  ConvInputs<T> in;  // in.maps is not used on the device
  ScanMap maps[kMaxDirections];
  T* out = nullptr;
  ConvGradients<T> grad{};
  State<T>* partial = nullptr;  // [K, B, spans, J + 1, D]: weights, then bias
};

// s_t of one channel, before the SiLU.
template <class T>
SEGMAMBA_HD State<T> convolve(const ConvParams<T>& p, int k, int b, int t, int d) {
  const ConvShape& s = p.in.shape;
  const std::int64_t channel = static_cast<std::int64_t>(k) * s.channels + d;
  State<T> sum = p.in.bias[channel];
  for (int j = 0; j < s.taps; ++j) {
    const int from = t - (s.taps - 1) + j;
    if (from < 0) continue;
    sum += p.in.weight[channel * s.taps + j] * to_state(p.in.x.row(0, b, p.maps[k].token(from))[d]);
  }
  return sum;
}

template <class T>
SEGMAMBA_HD std::int64_t conv_row(const ConvShape& s, int k, int b, std::int64_t token) {
  return ((static_cast<std::int64_t>(k) * s.batch + b) * s.length + token) * s.channels;
}

// The gradient of s_t.
template <class T>
SEGMAMBA_HD State<T> convolve_grad(const ConvParams<T>& p, int k, int b, int t, int d) {
  const std::int64_t row = conv_row<T>(p.in.shape, k, b, p.maps[k].token(t));
  return to_state(p.grad.out[row + d]) * silu_slope(convolve(p, k, b, t, d));
}

// One item an element of out.
template <class T>
struct ConvForwardItem {
  using Params = ConvParams<T>;
  static std::int64_t count(const ConvShape& s) {
    return static_cast<std::int64_t>(s.directions) * s.batch * s.length * s.channels;
  }
  SEGMAMBA_HD static void run(const Params& p, std::int64_t i) {
    const ConvShape& s = p.in.shape;
    const int d = static_cast<int>(i % s.channels);
    const int token = static_cast<int>(i / s.channels % s.length);
    const int sequence = static_cast<int>(i / s.channels / s.length);
    const int k = sequence / s.batch;
    from_state(silu(convolve(p, k, sequence % s.batch, p.maps[k].step(token), d)), p.out[i]);
  }
};

// One item an element of x: all directions in order.
template <class T>
struct ConvInputGradient {
  using Params = ConvParams<T>;
  static std::int64_t count(const ConvShape& s) {
    return static_cast<std::int64_t>(s.batch) * s.length * s.channels;
  }
  SEGMAMBA_HD static void run(const Params& p, std::int64_t i) {
    const ConvShape& s = p.in.shape;
    const int d = static_cast<int>(i % s.channels);
    const int token = static_cast<int>(i / s.channels % s.length);
    const int b = static_cast<int>(i / s.channels / s.length);
    State<T> sum = 0;
    for (int k = 0; k < s.directions; ++k) {
      const std::int64_t channel = static_cast<std::int64_t>(k) * s.channels + d;
      const int step = p.maps[k].step(token);
      for (int j = 0; j < s.taps; ++j) {
        const int to = step + (s.taps - 1) - j;
        if (to < s.length) {
          sum += p.in.weight[channel * s.taps + j] * convolve_grad(p, k, b, to, d);
        }
      }
    }
    from_state(sum, p.grad.x[i]);
  }
};

// One item a channel of a span of steps.
template <class T>
struct ConvWeightPartial {
  using Params = ConvParams<T>;
  static std::int64_t count(const ConvShape& s) {
    return static_cast<std::int64_t>(s.directions) * s.batch * divide_up(s.length, kConvSpan) *
           s.channels;
  }
  SEGMAMBA_HD static void run(const Params& p, std::int64_t i) {
    const ConvShape& s = p.in.shape;
    const int d = static_cast<int>(i % s.channels);
    const int spans = divide_up(s.length, kConvSpan);
    const std::int64_t place = i / s.channels;
    const int span = static_cast<int>(place % spans);
    const int sequence = static_cast<int>(place / spans);
    const int k = sequence / s.batch, b = sequence % s.batch;
    State<T> dweight[kMaxTaps] = {}, dbias = 0;
    const int end = (span + 1) * kConvSpan < s.length ? (span + 1) * kConvSpan : s.length;
    for (int t = span * kConvSpan; t < end; ++t) {
      const State<T> ds = convolve_grad(p, k, b, t, d);
      dbias += ds;
      for (int j = 0; j < s.taps; ++j) {
        const int from = t - (s.taps - 1) + j;
        if (from >= 0) dweight[j] += ds * to_state(p.in.x.row(0, b, p.maps[k].token(from))[d]);
      }
    }
    State<T>* const to = p.partial + place * (s.taps + 1) * s.channels + d;
    for (int j = 0; j < s.taps; ++j) to[static_cast<std::int64_t>(j) * s.channels] = dweight[j];
    to[static_cast<std::int64_t>(s.taps) * s.channels] = dbias;
  }
};

// One item a weight or bias: the sum over batch items and spans in order.
template <class T>
struct ConvWeightSum {
  using Params = ConvParams<T>;
  static std::int64_t count(const ConvShape& s) {
    return static_cast<std::int64_t>(s.directions) * (s.taps + 1) * s.channels;
  }
  SEGMAMBA_HD static void run(const Params& p, std::int64_t i) {
    const ConvShape& s = p.in.shape;
    const int d = static_cast<int>(i % s.channels);
    const int j = static_cast<int>(i / s.channels % (s.taps + 1));
    const int k = static_cast<int>(i / s.channels / (s.taps + 1));
    const std::int64_t places = static_cast<std::int64_t>(s.batch) * divide_up(s.length, kConvSpan);
    State<T> sum = 0;
    for (std::int64_t place = k * places; place < (k + 1) * places; ++place) {
      sum += p.partial[(place * (s.taps + 1) + j) * s.channels + d];
    }
    const std::int64_t channel = static_cast<std::int64_t>(k) * s.channels + d;
    if (j < s.taps) {
      p.grad.weight[channel * s.taps + j] = sum;
    } else {
      p.grad.bias[channel] = sum;
    }
  }
};

inline std::size_t conv_backward_workspace(const ConvShape& s) {
  return static_cast<std::size_t>(s.directions) * s.batch * divide_up(s.length, kConvSpan) *
         (s.taps + 1) * s.channels;
}

template <class T, class Launcher>
void launch_conv_forward(const ConvInputs<T>& in, T* out, const Launcher& launcher) {
  ConvParams<T> p(in);
  p.out = out;
  launcher.template items<ConvForwardItem<T>>(p, ConvForwardItem<T>::count(in.shape));
}

template <class T, class Launcher>
void launch_conv_backward(const ConvInputs<T>& in, const ConvGradients<T>& grad,
                          State<T>* workspace, const Launcher& launcher) {
  ConvParams<T> p(in);
  p.grad = grad;
  p.partial = workspace;
  launcher.template items<ConvInputGradient<T>>(p, ConvInputGradient<T>::count(in.shape));
  launcher.template items<ConvWeightPartial<T>>(p, ConvWeightPartial<T>::count(in.shape));
  launcher.template items<ConvWeightSum<T>>(p, ConvWeightSum<T>::count(in.shape));
}

}  // namespace segmamba::kernels
