#pragma once
// The math of one step, written once: the CPU path calls it on vectors of channels (V a type of
// lanes.h, which must then be included first), the CUDA path and its host emulator on single
// numbers. S is the type of what all channels of a token share.

#include <cmath>
#include <cstdint>
#include <cstring>

#include "element_of.h"
#include "scan_map.h"

namespace segmamba::kernels {

inline constexpr double kLog2e = 1.4426950408889634;
inline constexpr double kLn2 = 0.6931471805599453;

SEGMAMBA_HD double exp2_of(double v) { return ::exp2(v); }
// On the GPU one instruction, to 2^-22 relative; results below 2^-126 are zero.
SEGMAMBA_HD float exp2_of(float v) {
#if defined(__CUDA_ARCH__)
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(v));
  return result;
#else
  return ::exp2f(v);
#endif
}
// The same by multiplications and additions, to 1.5e-7 relative: see exp2_of in lanes.h.
SEGMAMBA_HD double exp2_by_fma(double v) { return ::exp2(v); }
SEGMAMBA_HD float exp2_by_fma(float v) {
  v = ::fminf(::fmaxf(v, -125.0F), 127.4F);
  const float shifted = v + 12582912.0F;
  const float f = v - (shifted - 12582912.0F);
  float p = f * 1.3264727080e-3F + 9.6715128622e-3F;
  p = p * f + 5.5507337456e-2F;
  p = p * f + 2.4022242082e-1F;
  p = p * f + 6.9314697760e-1F;
  p = p * f + 1.0F;
  std::uint32_t bits, shift;
  memcpy(&bits, &p, sizeof bits);
  memcpy(&shift, &shifted, sizeof shift);
  bits += shift << 23;
  memcpy(&p, &bits, sizeof p);
  return p;
}
// v + log(1 + u) for u in [0, 1]; float: log(1 + u) = u + u^2 q(u) with the minimax q of degree 7,
// 1.7e-7 relative.
SEGMAMBA_HD double plus_log1p(double v, double u) { return v + ::log1p(u); }
SEGMAMBA_HD float plus_log1p(float v, float u) {
  float q = u * 5.3648107158e-3F - 3.0065739991e-2F;
  q = q * u + 7.9204454185e-2F;
  q = q * u - 1.3753795774e-1F;
  q = q * u + 1.9153652023e-1F;
  q = q * u - 2.4857162973e-1F;
  q = q * u + 3.3321322539e-1F;
  q = q * u - 4.9999647960e-1F;
  q = q * u + 1.0F;
  return q * u + v;
}
template <class V>
SEGMAMBA_HD V plus_log1p(V v, V u) {
  return v + log1p_of(u);
}
SEGMAMBA_HD double reciprocal_of(double v) { return 1.0 / v; }
SEGMAMBA_HD float reciprocal_of(float v) {
#if defined(__CUDA_ARCH__)
  float result;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(v));
  return result;
#else
  return 1.0F / v;
#endif
}
template <class V>
SEGMAMBA_HD V reciprocal_of(V v) {
  return 1.0F / v;
}

// On the GPU a sign is part of the instruction that uses it, a choice is not.
SEGMAMBA_HD float minus_abs(float v) { return -::fabsf(v); }
template <class V>
SEGMAMBA_HD V minus_abs(V v) {
  return v > V{} ? -v : v;
}

template <class V>
SEGMAMBA_HD V exp_of(V v) {
  return exp2_of(v * static_cast<ElementOf<V>>(kLog2e));
}
// log(1 + e^v), exact where e^-v vanishes beside v.
template <class V>
SEGMAMBA_HD V softplus(V v) {
  const V zero{};
  return plus_log1p(v > zero ? v : zero, exp_of(minus_abs(v)));
}
template <class V>
SEGMAMBA_HD V sigmoid(V v) {
  return reciprocal_of(1.0F + exp_of(-v));
}
// The same, and softplus's slope, from one exponential.
template <class V>
SEGMAMBA_HD V softplus_and_slope(V v, V& slope) {
  const V zero{};
  const V e = exp_of(minus_abs(v));
  const V r = reciprocal_of(1.0F + e);
  slope = v > zero ? r : e * r;
  return plus_log1p(v > zero ? v : zero, e);
}
template <class V>
SEGMAMBA_HD V silu(V v) {
  return v * sigmoid(v);
}
// d silu(v) / d v, from s = sigmoid(v)
template <class V>
SEGMAMBA_HD V silu_slope(V v, V s) {
  return s * (1.0F + v * (1.0F - s));
}
template <class V>
SEGMAMBA_HD V silu_slope(V v) {
  return silu_slope(v, sigmoid(v));
}

// exp(delta A), with A already multiplied by log2(e).
template <class V>
SEGMAMBA_HD V decay_of(V delta, V a_log2e) {
  return exp2_of(delta * a_log2e);
}

// h_t from h_{t-1}; input = delta x.
template <class V, class S>
SEGMAMBA_HD V advance(V h, V decay, V input, S b) {
  return decay * h + input * b;
}

// The adjoint of one step of one channel (or vector of channels). Let g be the gradient of h_t once
// all later steps have been taken back; then, state by state,
//   g += gy C;  dC = gy h_t;  dB = g delta x;  d(delta x) += g B;
//   g *= decay (now the gradient of h_{t-1});  d(delta) += A g h_{t-1};  dA += delta g h_{t-1}.
template <class V>
struct StepAdjoint {
  V gy;            // gradient of y_t
  V input;         // delta_t x_t
  V delta;         // delta_t
  V input_grad{};  // d(delta_t x_t), summed over states
  V decay_grad{};  // sum over states of (A log2 e) g h_{t-1}

  // kAdd: to what dB and dC hold.
  template <bool kAdd = false, class S>
  SEGMAMBA_HD void state(V a_log2e, V decay, V before, V after, S b, S c, V& g, V& dA, V& dB,
                         V& dC) {
    g = g + gy * c;
    dC = kAdd ? dC + gy * after : gy * after;
    dB = kAdd ? dB + g * input : g * input;
    input_grad = input_grad + g * b;
    g = g * decay;
    const V flow = g * before;
    decay_grad = decay_grad + flow * a_log2e;
    dA = dA + flow * delta;
  }
  SEGMAMBA_HD V delta_grad(V x) const {
    return input_grad * x + decay_grad * static_cast<ElementOf<V>>(kLn2);
  }
  SEGMAMBA_HD V x_grad() const { return input_grad * delta; }
};

}  // namespace segmamba::kernels
