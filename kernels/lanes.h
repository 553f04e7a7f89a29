#pragma once
// Vectors of channels ("lanes") for the CPU path, in GCC's and Clang's vector extension. The width
// follows the instruction set that the including file is compiled for, so everything here has
// internal linkage: the same source is compiled once for each set (cpu_lanes_*.cpp).

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include "element_of.h"

namespace segmamba::kernels {
namespace {

#define SEGMAMBA_LANES inline __attribute__((always_inline))

#if defined(__AVX512F__)
inline constexpr int kLaneBytes = 64;
#elif defined(__AVX2__)
inline constexpr int kLaneBytes = 32;
#else
inline constexpr int kLaneBytes = 16;
#endif

using FloatLanes = float __attribute__((vector_size(kLaneBytes)));
using IntLanes = std::int32_t __attribute__((vector_size(kLaneBytes)));
using DoubleLanes = double __attribute__((vector_size(kLaneBytes)));

template <class T>
using Lanes = std::conditional_t<std::is_same_v<T, double>, DoubleLanes, FloatLanes>;
template <class T>
inline constexpr int kLanes = kLaneBytes / static_cast<int>(sizeof(T));

template <class T>
SEGMAMBA_LANES Lanes<T> load(const T* from) {
  Lanes<T> v;
  std::memcpy(&v, from, sizeof v);
  return v;
}
template <class T>
SEGMAMBA_LANES void store(T* to, Lanes<T> v) {
  std::memcpy(to, &v, sizeof v);
}
// The first `count` lanes; the others are zero (load) or stay out of memory (store).
template <class T>
SEGMAMBA_LANES Lanes<T> load(const T* from, int count) {
  if (count == kLanes<T>) return load(from);
  T lane[kLanes<T>] = {};
  std::memcpy(lane, from, sizeof(T) * count);
  return load(lane);
}
template <class T>
SEGMAMBA_LANES void store(T* to, Lanes<T> v, int count) {
  if (count == kLanes<T>) return store(to, v);
  T lane[kLanes<T>];
  store(lane, v);
  std::memcpy(to, lane, sizeof(T) * count);
}

// 2^x to 1.5e-7 relative: x = n + f with |f| <= 1/2, a polynomial for 2^f and an exponent shift.
// The polynomial is the minimax of degree 5 with p(0) = 1, so that a decay close to 1 keeps its
// distance from 1: thousands of steps multiply it. Results stay normal numbers: 2^-125 stands for
// everything below.
SEGMAMBA_LANES FloatLanes exp2_of(FloatLanes x) {
  const auto polynomial = [](FloatLanes f) {
    FloatLanes p = f * 1.3264727080e-3F + 9.6715128622e-3F;
    p = p * f + 5.5507337456e-2F;
    p = p * f + 2.4022242082e-1F;
    p = p * f + 6.9314697760e-1F;
    return p * f + 1.0F;
  };
#if defined(__AVX512DQ__)
  const FloatLanes f = _mm512_reduce_ps(x, 0);
  return _mm512_maskz_scalef_ps(0xffff, polynomial(f), x - f);  // GCC 12 warns of the plain form
#else
  constexpr float kLow = -125.0F;
  constexpr float kHigh = 127.4F;
#if defined(__AVX2__)
  x = _mm256_max_ps(_mm256_set1_ps(kLow), _mm256_min_ps(_mm256_set1_ps(kHigh), x));
#else
  x = x < kLow ? kLow - FloatLanes{} : x;
  x = x > kHigh ? kHigh - FloatLanes{} : x;
#endif
  // 1.5 * 2^23 rounds to an integer and leaves it in the low bits.
  constexpr float kRound = 12582912.0F;
  const FloatLanes shifted = x + kRound;
  const FloatLanes p = polynomial(x - (shifted - kRound));
  return (FloatLanes)((IntLanes)p + ((IntLanes)shifted << 23));
#endif
}

SEGMAMBA_LANES DoubleLanes exp2_of(DoubleLanes x) {
  for (int i = 0; i < kLanes<double>; ++i) x[i] = ::exp2(x[i]);
  return x;
}

// log(1 + u) for u in [0, 1]: 2 atanh(u / (2 + u)) by its series, to 2e-8 relative.
SEGMAMBA_LANES FloatLanes log1p_of(FloatLanes u) {
  const FloatLanes s = u / (u + 2.0F);
  const FloatLanes s2 = s * s;
  FloatLanes p = s2 * (2.0F / 15) + 2.0F / 13;
  p = p * s2 + 2.0F / 11;
  p = p * s2 + 2.0F / 9;
  p = p * s2 + 2.0F / 7;
  p = p * s2 + 2.0F / 5;
  p = p * s2 + 2.0F / 3;
  return (p * s2 + 2.0F) * s;
}

SEGMAMBA_LANES DoubleLanes log1p_of(DoubleLanes u) {
  for (int i = 0; i < kLanes<double>; ++i) u[i] = ::log1p(u[i]);
  return u;
}

template <int... kMask, class V>
SEGMAMBA_LANES V shuffle(V a, V b, std::integer_sequence<int, kMask...>) {
  return __builtin_shufflevector(a, b, kMask...);
}

// Lane i of the result takes, within each group of 2 * kHalf lanes, its first half from `a` and its
// second half from `b`, both from the first (kUpper = 0) or second (1) half of their group.
template <int kWidth, int kHalf, int kUpper, class Index>
struct HalvesMask;
template <int kWidth, int kHalf, int kUpper, int... kIndex>
struct HalvesMask<kWidth, kHalf, kUpper, std::integer_sequence<int, kIndex...>> {
  using type = std::integer_sequence<int, (kIndex / (2 * kHalf) * (2 * kHalf) + kIndex % kHalf +
                                           kUpper * kHalf + (kIndex / kHalf % 2) * kWidth)...>;
};

// Lane n of the result is the sum over the lanes of v[n]; v is overwritten. A tree of shuffles and
// additions, so the order of the sum is fixed.
template <class V, int kCount = sizeof(V) / sizeof(ElementOf<V>)>
SEGMAMBA_LANES V sum_each(V* v) {
  constexpr int kWidth = sizeof(V) / sizeof(ElementOf<V>);
  if constexpr (kCount == 1) {
    return v[0];
  } else {
    constexpr int kHalf = kCount / 2;
    using Index = std::make_integer_sequence<int, kWidth>;
#pragma GCC unroll 16
    for (int i = 0; i < kHalf; ++i) {
      v[i] = shuffle(v[i], v[i + kHalf], typename HalvesMask<kWidth, kHalf, 0, Index>::type{}) +
             shuffle(v[i], v[i + kHalf], typename HalvesMask<kWidth, kHalf, 1, Index>::type{});
    }
    return sum_each<V, kHalf>(v);
  }
}

}  // namespace
}  // namespace segmamba::kernels
