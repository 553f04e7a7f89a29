#include <algorithm>
#include <vector>

#include "segmamba/core/parallel.h"
#include "selective_scan.h"
#include "selective_scan_math.cuh"

namespace segmamba::kernels {
namespace {

std::int64_t chunk_count(const ScanShape& s) { return (s.length + kCpuChunk - 1) / kCpuChunk; }

}  // namespace

std::size_t scan_checkpoint_count_cpu(const ScanShape& s) {
  return static_cast<std::size_t>(s.directions) * s.batch * chunk_count(s) * s.states * s.channels;
}

template <class T>
void selective_scan_forward_cpu(const ScanInputs<T>& in, const ScanOutputs<T>& out, int threads) {
  const ScanShape& s = in.shape;
  const std::int64_t chunks = chunk_count(s);
  parallel_for(
      static_cast<std::int64_t>(s.batch) * s.channels,
      [&](std::int64_t unit) {
        const std::int64_t b = unit / s.channels, d = unit % s.channels;
        std::vector<T> h(s.states);
        for (int k = 0; k < s.directions; ++k) {
          std::fill(h.begin(), h.end(), T(0));
          const T* A = in.A + (static_cast<std::int64_t>(k) * s.channels + d) * s.states;
          for (int t = 0; t < s.length; ++t) {
            if (out.checkpoints && t % kCpuChunk == 0) {
              T* c = out.checkpoints +
                     ((static_cast<std::int64_t>(k) * s.batch + b) * chunks + t / kCpuChunk) *
                         s.states * s.channels;
              for (int n = 0; n < s.states; ++n) c[n * s.channels + d] = h[n];
            }
            const std::int64_t l = in.maps[k].token(t);
            T delta = in.delta.row(k, b, l)[d];
            if (in.delta_bias) delta += in.delta_bias[k * s.channels + d];
            if (in.delta_softplus) delta = softplus(delta);
            const T x = in.x.row(k, b, l)[d];
            T y = in.D ? in.D[k * s.channels + d] * x : T(0);
            const T* B = in.B.row(k, b, l);
            const T* C = in.C.row(k, b, l);
            for (int n = 0; n < s.states; ++n) {
              h[n] = exp_of(delta * A[n]) * h[n] + delta * x * B[n];
              y += C[n] * h[n];
            }
            const std::int64_t at = (b * s.length + l) * s.channels + d;
            if (k) y += (out.ungated ? out.ungated[at] : out.out[at]);
            if (out.ungated) out.ungated[at] = y;
            if (k + 1 == s.directions && in.z.data) y *= silu(in.z.row(0, b, l)[d]);
            out.out[at] = y;
          }
        }
      },
      threads);
}

template <class T>
void selective_scan_backward_cpu(const ScanInputs<T>& in, const ScanGradients<T>& grad,
                                 int threads) {
  const ScanShape& s = in.shape;
  const std::int64_t chunks = chunk_count(s);
  const int D = s.channels, N = s.states;
  std::vector<T> dz_factor;
  for (int k = 0; k < s.directions; ++k) {
    std::fill_n(grad.A + static_cast<std::int64_t>(k) * D * N, D * N, T(0));
    if (grad.D) std::fill_n(grad.D + k * D, D, T(0));
    if (grad.delta_bias) std::fill_n(grad.delta_bias + k * D, D, T(0));
    for (int b = 0; b < s.batch; ++b) {
      std::vector<T> h(static_cast<std::size_t>(kCpuChunk + 1) * N), g(N);
      for (int d = 0; d < D; ++d) {
        std::fill(g.begin(), g.end(), T(0));
        const T* A = in.A + (static_cast<std::int64_t>(k) * D + d) * N;
        for (std::int64_t chunk = chunks - 1; chunk >= 0; --chunk) {
          const int begin = static_cast<int>(chunk) * kCpuChunk;
          const int end = std::min(begin + kCpuChunk, s.length);
          const T* saved = grad.checkpoints +
                           ((static_cast<std::int64_t>(k) * s.batch + b) * chunks + chunk) * N * D;
          for (int n = 0; n < N; ++n) h[n] = saved[n * D + d];
          const auto delta_of = [&](std::int64_t l, T& raw) {
            raw = in.delta.row(k, b, l)[d];
            if (in.delta_bias) raw += in.delta_bias[k * D + d];
            return in.delta_softplus ? softplus(raw) : raw;
          };
          T raw;
          for (int t = begin; t < end; ++t) {
            const std::int64_t l = in.maps[k].token(t);
            const T delta = delta_of(l, raw);
            const T x = in.x.row(k, b, l)[d];
            T* now = &h[static_cast<std::size_t>(t - begin) * N];
            for (int n = 0; n < N; ++n) {
              now[N + n] = exp_of(delta * A[n]) * now[n] + delta * x * in.B.row(k, b, l)[n];
            }
          }
          for (int t = end - 1; t >= begin; --t) {
            const std::int64_t l = in.maps[k].token(t);
            const T delta = delta_of(l, raw);
            const T x = in.x.row(k, b, l)[d];
            const std::int64_t at = (static_cast<std::int64_t>(b) * s.length + l) * D + d;
            T gy = grad.out[at];
            if (in.z.data) {
              const T z = in.z.row(0, b, l)[d];
              if (k == 0 && grad.z) grad.z[at] = gy * grad.ungated[at] * silu_slope(z);
              gy *= silu(z);
            }
            const T* before = &h[static_cast<std::size_t>(t - begin) * N];
            const T* after = before + N;
            const std::int64_t row = ((static_cast<std::int64_t>(k) * s.batch + b) * s.length + l);
            T du = 0, ddelta = 0;
            for (int n = 0; n < N; ++n) {
              g[n] += gy * in.C.row(k, b, l)[n];
              T& dB = grad.B[row * N + n];
              T& dC = grad.C[row * N + n];
              dC = (d ? dC : T(0)) + gy * after[n];
              dB = (d ? dB : T(0)) + g[n] * delta * x;
              du += g[n] * in.B.row(k, b, l)[n];
              const T decay = exp_of(delta * A[n]);
              g[n] *= decay;
              ddelta += g[n] * before[n] * A[n];
              grad.A[(static_cast<std::int64_t>(k) * D + d) * N + n] += g[n] * before[n] * delta;
            }
            grad.x[row * D + d] = du * delta + (in.D ? in.D[k * D + d] * gy : T(0));
            ddelta += du * x;
            if (in.delta_softplus) ddelta *= sigmoid(raw);
            grad.delta[row * D + d] = ddelta;
            if (grad.D) grad.D[k * D + d] += gy * x;
            if (grad.delta_bias) grad.delta_bias[k * D + d] += ddelta;
          }
        }
      }
    }
  }
}

template void selective_scan_forward_cpu(const ScanInputs<float>&, const ScanOutputs<float>&, int);
template void selective_scan_forward_cpu(const ScanInputs<double>&, const ScanOutputs<double>&,
                                         int);
template void selective_scan_backward_cpu(const ScanInputs<float>&, const ScanGradients<float>&,
                                          int);
template void selective_scan_backward_cpu(const ScanInputs<double>&, const ScanGradients<double>&,
                                          int);

}  // namespace segmamba::kernels
