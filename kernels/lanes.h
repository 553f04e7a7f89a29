#pragma once
// Vectors of channels ("lanes") for the CPU path, in GCC's and Clang's vector extension. The width
// follows the instruction set that the including file is compiled for, so everything here has
// internal linkage: the same source is compiled once for each set (cpu_lanes_*.cpp).

#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__SSE2__)
#include <xmmintrin.h>
#endif

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include "element_of.h"
#include "selective_scan.h"

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
using BitLanes = std::uint32_t __attribute__((vector_size(kLaneBytes)));
using HalfBitLanes = std::uint16_t __attribute__((vector_size(kLaneBytes / 2)));
using DoubleLanes = double __attribute__((vector_size(kLaneBytes)));

// Vectors of state numbers: 16-bit data is computed in float.
template <class T>
using Lanes = std::conditional_t<std::is_same_v<T, double>, DoubleLanes, FloatLanes>;
template <class T>
inline constexpr int kLanes = kLaneBytes / static_cast<int>(sizeof(State<T>));

SEGMAMBA_LANES FloatLanes floats_of(HalfBitLanes bits, BFloat16) {
  return (FloatLanes)(__builtin_convertvector(bits, BitLanes) << 16);
}
// To nearest, ties to even; NaN stays NaN.
SEGMAMBA_LANES HalfBitLanes bits_of(FloatLanes v, BFloat16) {
  const BitLanes bits = (BitLanes)v;
  const BitLanes rounded = bits + 0x7fffU + ((bits >> 16) & 1U);
  // NOLINTNEXTLINE(misc-redundant-expression): false where it is NaN
  const BitLanes kept = v == v ? rounded : (bits | 0x400000U);
  return __builtin_convertvector(kept >> 16, HalfBitLanes);
}

SEGMAMBA_LANES FloatLanes floats_of(HalfBitLanes bits, Float16) {
#if defined(__AVX512F__)
  return _mm512_maskz_cvtph_ps(0xffff, (__m256i)bits);  // GCC 12 warns of the plain form
#elif defined(__F16C__)
  return _mm256_cvtph_ps((__m128i)bits);
#else
  const BitLanes wide = __builtin_convertvector(bits, BitLanes);
  // Multiplying by 2^112 moves the exponent, and makes small numbers normal.
  const BitLanes magnitude = (BitLanes)((FloatLanes)((wide & 0x7fffU) << 13) * 0x1p112F);
  const BitLanes finite = (wide & 0x7c00U) == 0x7c00U ? (magnitude | 0x7f800000U) : magnitude;
  return (FloatLanes)(finite | ((wide & 0x8000U) << 16));
#endif
}
SEGMAMBA_LANES HalfBitLanes bits_of(FloatLanes v, Float16) {
#if defined(__AVX512F__)
  return (HalfBitLanes)_mm512_maskz_cvtps_ph(0xffff, v, _MM_FROUND_TO_NEAREST_INT);
#elif defined(__F16C__)
  return (HalfBitLanes)_mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT);
#else
  const BitLanes bits = (BitLanes)v & 0x7fffffffU;
  const BitLanes sign = ((BitLanes)v >> 16) & 0x8000U;
  const BitLanes normal = (bits - (112U << 23) + 0xfffU + ((bits >> 13) & 1U)) >> 13;
  // Below 2^-14 the sum with 1/2 has its last bit at 2^-24, that of the smallest number.
  const BitLanes small = (BitLanes)((FloatLanes)bits + 0.5F) - 0x3f000000U;
  BitLanes half = bits < 0x38800000U ? small : normal;
  half = bits >= 0x477ff000U ? BitLanes{} + 0x7c00U : half;  // 65520 and above: infinite
  half = bits > 0x7f800000U ? BitLanes{} + 0x7e00U : half;
  return __builtin_convertvector(half | sign, HalfBitLanes);
#endif
}

template <class T>
inline constexpr bool kIsHalf = std::is_same_v<T, BFloat16> || std::is_same_v<T, Float16>;

template <class T>
SEGMAMBA_LANES Lanes<T> load(const T* from) {
  if constexpr (kIsHalf<T>) {
    HalfBitLanes bits;
    std::memcpy(&bits, from, sizeof bits);
    return floats_of(bits, T{});
  } else {
    Lanes<T> v;
    std::memcpy(&v, from, sizeof v);
    return v;
  }
}
template <class T>
SEGMAMBA_LANES void store(T* to, Lanes<T> v) {
  if constexpr (kIsHalf<T>) {
    const HalfBitLanes bits = bits_of(v, T{});
    std::memcpy(to, &bits, sizeof bits);
  } else {
    std::memcpy(to, &v, sizeof v);
  }
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

// log(1 + u) for u in [0, 1]: u + u^2 q(u) with the minimax q of degree 7, 1.7e-7 relative.
SEGMAMBA_LANES FloatLanes log1p_of(FloatLanes u) {
  FloatLanes q = u * 5.3648107158e-3F - 3.0065739991e-2F;
  q = q * u + 7.9204454185e-2F;
  q = q * u - 1.3753795774e-1F;
  q = q * u + 1.9153652023e-1F;
  q = q * u - 2.4857162973e-1F;
  q = q * u + 3.3321322539e-1F;
  q = q * u - 4.9999647960e-1F;
  return q * (u * u) + u;
}

SEGMAMBA_LANES DoubleLanes log1p_of(DoubleLanes u) {
  for (int i = 0; i < kLanes<double>; ++i) u[i] = ::log1p(u[i]);
  return u;
}

// 1 / v for v >= 1, to 1.2e-7 relative; 2^-126 beyond 2^126.
SEGMAMBA_LANES FloatLanes reciprocal_of(FloatLanes v) {
#if defined(__AVX512F__)
  // One Newton step from 14 bits takes half the time of a division. NaN must be the second of min.
  v = _mm512_maskz_min_ps(0xffff, _mm512_set1_ps(0x1p126F), v);
  const FloatLanes r = _mm512_maskz_rcp14_ps(0xffff, v);
  return r * (2.0F - v * r);
#else
  return 1.0F / v;
#endif
}

// Lanes of a and b by halves of groups of 2 * kHalf lanes, the first half from `a` and the second
// from `b`: each from where it is, or (kCross) from the other half of its group.
template <bool kCross, int kHalf, class V, int... kIndex>
SEGMAMBA_LANES V halves(V a, V b, std::integer_sequence<int, kIndex...>) {
#if defined(__AVX512F__)
  // GCC makes a shuffle, which one port executes, of a blend, which two do.
  if constexpr (!kCross && std::is_same_v<V, FloatLanes>) {
    return IntLanes{(kIndex / kHalf % 2 ? -1 : 0)...} ? b : a;
  }
#endif
  return __builtin_shufflevector(
      a, b, ((kCross ? kIndex ^ kHalf : kIndex) + kIndex / kHalf % 2 * sizeof...(kIndex))...);
}

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
      v[i] = halves<false, kHalf>(v[i], v[i + kHalf], Index{}) +
             halves<true, kHalf>(v[i], v[i + kHalf], Index{});
    }
    return sum_each<V, kHalf>(v);
  }
}

}  // namespace
}  // namespace segmamba::kernels
