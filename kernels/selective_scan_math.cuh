#pragma once
// The math of one step, written once: the CPU path calls it on vectors of channels, the CUDA path
// and its host emulator on single numbers. Include it from a kernel, not from a public header.

#include <cmath>

#include "scan_map.h"

namespace segmamba::kernels {

inline constexpr double kLog2e = 1.4426950408889634;

SEGMAMBA_HD double exp2_of(double v) { return ::exp2(v); }
SEGMAMBA_HD float exp2_of(float v) { return ::exp2f(v); }
SEGMAMBA_HD double log1p_of(double v) { return ::log1p(v); }
SEGMAMBA_HD float log1p_of(float v) { return ::log1pf(v); }

template <class V>
SEGMAMBA_HD V exp_of(V v) {
  return exp2_of(V(v * static_cast<decltype(v)>(kLog2e)));
}
template <class V>
SEGMAMBA_HD V softplus(V v) {
  return (v > 0 ? v : V(0)) + log1p_of(exp_of(v > 0 ? V(-v) : v));
}
template <class V>
SEGMAMBA_HD V sigmoid(V v) {
  return 1 / (1 + exp_of(V(-v)));
}
template <class V>
SEGMAMBA_HD V silu(V v) {
  return v * sigmoid(v);
}
// d silu(v) / d v
template <class V>
SEGMAMBA_HD V silu_slope(V v) {
  const V s = sigmoid(v);
  return s * (1 + v * (1 - s));
}

}  // namespace segmamba::kernels
