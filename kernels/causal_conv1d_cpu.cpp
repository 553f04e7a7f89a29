#include "causal_conv1d.h"

#include <algorithm>
#include <vector>

#include "segmamba/core/parallel.h"
#include "selective_scan_math.cuh"

namespace segmamba::kernels {
namespace {

constexpr int kConvChunk = 512;

std::int64_t chunk_count(const ConvShape& s) { return (s.length + kConvChunk - 1) / kConvChunk; }

// s_t of one channel, before the SiLU.
template <class T>
T convolve(const ConvInputs<T>& in, int k, int b, int t, int d) {
  const ConvShape& s = in.shape;
  const std::int64_t channel = static_cast<std::int64_t>(k) * s.channels + d;
  T sum = in.bias[channel];
  for (int j = std::max(0, s.taps - 1 - t); j < s.taps; ++j) {
    sum +=
        in.weight[channel * s.taps + j] * in.x.row(0, b, in.maps[k].token(t - (s.taps - 1) + j))[d];
  }
  return sum;
}

}  // namespace

template <class T>
void causal_conv1d_silu_forward_cpu(const ConvInputs<T>& in, T* out, int threads) {
  const ConvShape& s = in.shape;
  const std::int64_t chunks = chunk_count(s);
  parallel_for(
      s.directions * s.batch * chunks,
      [&](std::int64_t unit) {
        const int sequence = static_cast<int>(unit / chunks);
        const int k = sequence / s.batch, b = sequence % s.batch;
        const int begin = static_cast<int>(unit % chunks) * kConvChunk;
        const int end = std::min(begin + kConvChunk, s.length);
        for (int t = begin; t < end; ++t) {
          T* row = out + (static_cast<std::int64_t>(sequence) * s.length + in.maps[k].token(t)) *
                             s.channels;
          for (int d = 0; d < s.channels; ++d) row[d] = silu(convolve(in, k, b, t, d));
        }
      },
      threads);
}

template <class T>
void causal_conv1d_silu_backward_cpu(const ConvInputs<T>& in, const ConvGradients<T>& grad,
                                     int threads) {
  const ConvShape& s = in.shape;
  std::fill_n(grad.weight, static_cast<std::int64_t>(s.directions) * s.channels * s.taps, T(0));
  std::fill_n(grad.bias, static_cast<std::int64_t>(s.directions) * s.channels, T(0));
  std::fill_n(grad.x, static_cast<std::int64_t>(s.batch) * s.length * s.channels, T(0));
  for (int k = 0; k < s.directions; ++k) {
    for (int b = 0; b < s.batch; ++b) {
      for (int t = 0; t < s.length; ++t) {
        const std::int64_t l = in.maps[k].token(t);
        for (int d = 0; d < s.channels; ++d) {
          const std::int64_t channel = static_cast<std::int64_t>(k) * s.channels + d;
          const std::int64_t at = (static_cast<std::int64_t>(k) * s.batch + b) * s.length + l;
          const T ds = grad.out[at * s.channels + d] * silu_slope(convolve(in, k, b, t, d));
          grad.bias[channel] += ds;
          for (int j = std::max(0, s.taps - 1 - t); j < s.taps; ++j) {
            const std::int64_t from = in.maps[k].token(t - (s.taps - 1) + j);
            grad.weight[channel * s.taps + j] += ds * in.x.row(0, b, from)[d];
            grad.x[(static_cast<std::int64_t>(b) * s.length + from) * s.channels + d] +=
                ds * in.weight[channel * s.taps + j];
          }
        }
      }
    }
  }
}

template void causal_conv1d_silu_forward_cpu(const ConvInputs<float>&, float*, int);
template void causal_conv1d_silu_forward_cpu(const ConvInputs<double>&, double*, int);
template void causal_conv1d_silu_backward_cpu(const ConvInputs<float>&, const ConvGradients<float>&,
                                              int);
template void causal_conv1d_silu_backward_cpu(const ConvInputs<double>&,
                                              const ConvGradients<double>&, int);

}  // namespace segmamba::kernels
