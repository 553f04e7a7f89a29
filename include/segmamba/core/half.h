#pragma once
// IEEE 754 binary16, as storage: half the memory of float, 11 significant bits.

#include <bit>
#include <cstdint>
#include <span>

namespace segmamba {

struct Half {
  std::uint16_t bits = 0;
};

// Exact.
inline float to_float(Half half) {
  const std::uint32_t magnitude = half.bits & 0x7fffU, sign = half.bits & 0x8000U;
  // Multiplying by 2^112 moves the exponent, and makes small numbers normal.
  const auto scaled =
      std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude << 13) * 0x1p112F);
  const std::uint32_t finite = magnitude >= 0x7c00U ? (scaled | 0x7f800000U) : scaled;
  return std::bit_cast<float>(finite | (sign << 16));
}

// To nearest, ties to even; 65520 and above become infinite, NaN stays NaN.
inline Half to_half(float value) {
  const auto all = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t bits = all & 0x7fffffffU, sign = (all >> 16) & 0x8000U;
  const std::uint32_t normal = (bits - (112U << 23) + 0xfffU + ((bits >> 13) & 1U)) >> 13;
  // Below 2^-14 the sum with 1/2 has its last bit at 2^-24, that of the smallest number.
  const std::uint32_t small =
      std::bit_cast<std::uint32_t>(std::bit_cast<float>(bits < 0x38800000U ? bits : 0U) + 0.5F) -
      0x3f000000U;
  std::uint32_t half = bits < 0x38800000U ? small : normal;
  half = bits >= 0x477ff000U ? 0x7c00U : half;
  half = bits > 0x7f800000U ? 0x7e00U : half;
  return {static_cast<std::uint16_t>(half | sign)};
}

}  // namespace segmamba
