#pragma once
// Random arguments of a scan in plain vectors, for tests and benchmarks without LibTorch.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "aligned_vector.h"
#include "segmamba/core/random.h"
#include "selective_scan.h"

namespace segmamba::testing {

inline kernels::ScanMap forward_map(std::int32_t length) {
  return {{1, 1, length}, {0, 0, 1}, length, false};
}
inline kernels::ScanMap reverse_map(std::int32_t length) {
  return {{1, 1, length}, {0, 0, 1}, length, true};
}
inline kernels::ScanMap interslice_map(std::int32_t length, std::int32_t slices) {
  return {{1, length / slices, slices}, {0, 1, length / slices}, length, false};
}
// Forward, reverse and inter-slice, as many as the shape has.
inline std::vector<kernels::ScanMap> maps_for(const kernels::ScanShape& s, int slices) {
  const std::vector<kernels::ScanMap> all{forward_map(s.length), reverse_map(s.length),
                                          interslice_map(s.length, slices)};
  return {all.begin(), all.begin() + s.directions};
}

inline std::vector<double> random_numbers(std::size_t count, double scale, double shift,
                                          Random& random) {
  std::vector<double> values(count);
  for (auto& value : values) value = random.uniform(-scale, scale) + shift;
  return values;
}

// One number of type T from a double, and back.
template <class T>
T number_from(double v) {
  return static_cast<T>(v);
}
template <>
inline kernels::BFloat16 number_from<kernels::BFloat16>(double v) {
  // Values of the cases below are rounded to bfloat16 first where a test needs it.
  const float f = static_cast<float>(v);
  std::uint32_t bits;
  std::memcpy(&bits, &f, sizeof bits);
  return {static_cast<std::uint16_t>(bits >> 16)};
}
// Exact where v has a half of that value, as all of a case's data have.
template <>
inline kernels::Float16 number_from<kernels::Float16>(double v) {
  const int exponent = v == 0 ? -14 : std::max(std::ilogb(v), -14);
  const auto steps = static_cast<int>(std::ldexp(std::abs(v), 10 - exponent));  // of the last bit
  const int sign = std::signbit(v) ? 0x8000 : 0;
  // A number without its leading bit has the exponent field 0.
  return {static_cast<std::uint16_t>(sign | (((exponent + 14) << 10) + steps))};
}
inline double to_double(double v) { return v; }
inline double to_double(float v) { return v; }
inline double to_double(kernels::BFloat16 v) {
  const std::uint32_t bits = static_cast<std::uint32_t>(v.bits) << 16;
  float f;
  std::memcpy(&f, &bits, sizeof f);
  return f;
}

inline double to_double(kernels::Float16 v) {
  const int exponent = v.bits >> 10 & 31, fraction = v.bits & 1023;
  const double magnitude = exponent == 31  ? (fraction ? NAN : INFINITY)
                           : exponent == 0 ? std::ldexp(fraction, -24)
                                           : std::ldexp(1024 + fraction, exponent - 25);
  return v.bits & 0x8000 ? -magnitude : magnitude;
}

// Aligned as LibTorch aligns its memory.
using kernels::AlignedVector;

template <class To, class From>
AlignedVector<To> convert(const From& from) {
  AlignedVector<To> to;
  to.reserve(from.size());
  for (const auto& v : from) to.push_back(number_from<To>(to_double(v)));
  return to;
}

struct ScanOptions {
  bool gate = true, skip = true, bias = true, softplus = true;
};

// Owns the arguments, the outputs and the gradients of a scan whose data are of type T.
template <class T>
struct ScanCase {
  using S = kernels::State<T>;
  kernels::ScanShape shape;
  ScanOptions options;
  std::vector<kernels::ScanMap> maps;
  AlignedVector<T> x, delta, B, C, z, grad_out;
  AlignedVector<S> A, D, bias;
  AlignedVector<T> out, dx, ddelta, dB, dC, dz;
  AlignedVector<S> ungated, checkpoints, dA, dD, dbias;

  ScanCase(const kernels::ScanShape& s, std::vector<kernels::ScanMap> m, ScanOptions o = {},
           std::uint64_t seed = 7)
      : shape(s), options(o), maps(std::move(m)) {
    Random random(seed);
    const std::size_t rows = static_cast<std::size_t>(s.batch) * s.length;
    const std::size_t K = s.directions, channels = s.channels, N = s.states;
    const auto data = [&](std::size_t count, double scale, double shift) {
      // Exact in every type, so that all types see the same numbers.
      return convert<T>(convert<kernels::BFloat16>(random_numbers(count, scale, shift, random)));
    };
    const auto parameters = [&](std::size_t count, double scale, double shift) {
      return convert<S>(random_numbers(count, scale, shift, random));
    };
    x = data(K * rows * channels, 2, 0);
    delta = data(K * rows * channels, 2, 0.5);
    B = data(K * rows * N, 1, 0);
    C = data(K * rows * N, 1, 0);
    z = data(rows * channels, 3, 0);
    grad_out = data(rows * channels, 1, 0);
    A = parameters(K * channels * N, 1.5, -1.6);
    D = parameters(K * channels, 1, 0);
    bias = parameters(K * channels, 1, -1);
    out.resize(rows * channels);
    dz.resize(out.size());
    ungated.resize(out.size());
    dx.resize(x.size());
    ddelta.resize(x.size());
    dB.resize(B.size());
    dC.resize(B.size());
    dA.resize(A.size());
    dD.resize(D.size());
    dbias.resize(D.size());
  }

  kernels::ScanInputs<T> inputs() const {
    const std::int64_t L = shape.length;
    const std::int32_t channels = shape.channels, N = shape.states;
    const auto rows = [&](const AlignedVector<T>& v, std::int32_t width) {
      return kernels::Rows<const T>{v.data(), shape.batch * L * width, L * width, width};
    };
    return {shape,
            maps.data(),
            rows(x, channels),
            rows(delta, channels),
            rows(B, N),
            rows(C, N),
            options.gate ? kernels::Rows<const T>{z.data(), 0, L * channels, shape.channels}
                         : kernels::Rows<const T>{},
            A.data(),
            options.skip ? D.data() : nullptr,
            options.bias ? bias.data() : nullptr,
            options.softplus};
  }
  kernels::ScanOutputs<T> outputs() {
    return {out.data(), options.gate ? ungated.data() : nullptr, checkpoints.data()};
  }
  kernels::ScanGradients<T> gradients() {
    return {grad_out.data(),
            options.gate ? ungated.data() : nullptr,
            checkpoints.data(),
            dx.data(),
            ddelta.data(),
            dB.data(),
            dC.data(),
            options.gate ? dz.data() : nullptr,
            dA.data(),
            options.skip ? dD.data() : nullptr,
            options.bias ? dbias.data() : nullptr};
  }
  void run_cpu(int threads = 1) {
    checkpoints.resize(kernels::scan_checkpoint_count_cpu(shape));
    kernels::selective_scan_forward_cpu(inputs(), outputs(), threads);
    kernels::selective_scan_backward_cpu(inputs(), gradients(), threads);
  }
};

// The formula, one step after another in float64: what everything else is held to.
template <class T>
std::vector<double> sequential_scan(const ScanCase<T>& c) {
  const auto in = c.inputs();
  const auto& s = c.shape;
  std::vector<double> out(c.out.size());
  for (int sequence = 0; sequence < s.directions * s.batch; ++sequence) {
    const int k = sequence / s.batch, b = sequence % s.batch;
    for (int d = 0; d < s.channels; ++d) {
      std::vector<double> h(s.states);
      for (int t = 0; t < s.length; ++t) {
        const int l = c.maps[k].token(t);
        double delta = to_double(in.delta.row(k, b, l)[d]);
        if (in.delta_bias) delta += in.delta_bias[k * s.channels + d];
        if (in.delta_softplus) delta = delta > 30 ? delta : std::log1p(std::exp(delta));
        const double x = to_double(in.x.row(k, b, l)[d]);
        double y = in.D ? in.D[k * s.channels + d] * x : 0;
        for (int n = 0; n < s.states; ++n) {
          h[n] = std::exp(delta * in.A[(k * s.channels + d) * s.states + n]) * h[n] +
                 delta * to_double(in.B.row(k, b, l)[n]) * x;
          y += to_double(in.C.row(k, b, l)[n]) * h[n];
        }
        out[(static_cast<std::size_t>(b) * s.length + l) * s.channels + d] += y;
      }
    }
  }
  for (std::size_t i = 0; in.z.data && i < out.size(); ++i) {
    const double z = to_double(c.z[i]);
    out[i] *= z / (1 + std::exp(-z));
  }
  return out;
}

}  // namespace segmamba::testing
