#pragma once
// The maths of one voxel of a patch, written once. A CUDA kernel and the tests' plain loops call
// these functions on single numbers; the CPU path calls those that are templates over V on vectors
// of voxels, for which it must have declared as_int, as_float, to_float, to_unsigned, nearest_int,
// sqrt_of, smaller_of and larger_of before it includes this header.

#include <cmath>
#include <cstdint>
#include <cstring>

#include "augment.h"
#include "scan_map.h"

namespace segmamba::kernels {

// ---- Numbers ------------------------------------------------------------------------------------

SEGMAMBA_HD std::int32_t as_int(float v) {
  std::int32_t bits;
  memcpy(&bits, &v, sizeof bits);
  return bits;
}
SEGMAMBA_HD float as_float(std::int32_t bits) {
  float v;
  memcpy(&v, &bits, sizeof v);
  return v;
}
SEGMAMBA_HD float to_float(std::int32_t v) { return static_cast<float>(v); }
SEGMAMBA_HD std::int32_t to_signed(std::uint32_t v) { return static_cast<std::int32_t>(v); }
// To nearest, ties to even.
SEGMAMBA_HD std::int32_t nearest_int(float v) {
#if defined(__CUDA_ARCH__)
  return __float2int_rn(v);
#else
  return static_cast<std::int32_t>(::lrintf(v));
#endif
}
SEGMAMBA_HD float sqrt_of(float v) { return ::sqrtf(v); }
SEGMAMBA_HD float smaller_of(float a, float b) { return a < b ? a : b; }
SEGMAMBA_HD float larger_of(float a, float b) { return a > b ? a : b; }

// Of the bits of an IEEE binary16; exact.
SEGMAMBA_HD float half_value(std::uint16_t bits) {
#if defined(__CUDA_ARCH__)
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
#else
  const std::int32_t magnitude = bits & 0x7fff;
  // Multiplying by 2^112 moves the exponent, and makes small numbers normal.
  const std::int32_t scaled = as_int(as_float(magnitude << 13) * 5.192296858534828e33F);
  const std::int32_t finite = magnitude >= 0x7c00 ? (scaled | 0x7f800000) : scaled;
  return as_float(finite | static_cast<std::int32_t>((bits & 0x8000U) << 16));
#endif
}

// log2 of a positive normal number: exponent, and f q(f) for the rest 1 + f in [sqrt(1/2),
// sqrt(2)), with the minimax q of degree 7 (1.7e-7 relative).
template <class V>
SEGMAMBA_HD V log2_of(V v) {
  const auto bits = as_int(v);
  const auto exponent = (bits - 0x3f3504f3) >> 23;
  const V f = as_float(bits - (exponent << 23)) - 1.0F;
  V q = f * -1.4581161161e-1F + 2.3404233758e-1F;
  q = q * f - 2.4887687551e-1F;
  q = q * f + 2.8709870407e-1F;
  q = q * f - 3.6023963926e-1F;
  q = q * f + 4.8092324215e-1F;
  q = q * f - 7.2135278807e-1F;
  q = q * f + 1.4426949620F;
  return q * f + to_float(exponent);
}

// t^power for normal numbers t in [2^-126, 1]; results below 2^-126 are 2^-126. exp2 by the minimax
// polynomial of degree 5 with p(0) = 1, 1.5e-7 relative.
template <class V>
SEGMAMBA_HD V power_of(V t, float power) {
  const V exponent = larger_of(log2_of(t) * power, V{} - 126.0F);
  const auto whole = nearest_int(exponent);
  const V f = exponent - to_float(whole);
  V p = f * 1.3264727080e-3F + 9.6715128622e-3F;
  p = p * f + 5.5507337456e-2F;
  p = p * f + 2.4022242082e-1F;
  p = p * f + 6.9314697760e-1F;
  p = p * f + 1.0F;
  return as_float(as_int(p) + (whole << 23));
}

// ---- Random numbers -----------------------------------------------------------------------------

struct PhiloxBlock {
  std::uint32_t word[4];
};
// Philox4x32, with 10 rounds that of segmamba/core/random.h. 7 are the fewest that pass all tests
// of BigCrush (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011, table 2).
inline constexpr int kNoiseRounds = 7;
SEGMAMBA_HD PhiloxBlock philox(PhiloxBlock counter, std::uint64_t key, int rounds) {
  auto k0 = static_cast<std::uint32_t>(key), k1 = static_cast<std::uint32_t>(key >> 32);
  for (int round = 0; round < rounds; ++round) {
    const std::uint64_t p0 = std::uint64_t{0xD2511F53U} * counter.word[0];
    const std::uint64_t p1 = std::uint64_t{0xCD9E8D57U} * counter.word[2];
    counter = {{static_cast<std::uint32_t>(p1 >> 32) ^ counter.word[1] ^ k0,
                static_cast<std::uint32_t>(p1),
                static_cast<std::uint32_t>(p0 >> 32) ^ counter.word[3] ^ k1,
                static_cast<std::uint32_t>(p0)}};
    k0 += 0x9E3779B9U;
    k1 += 0xBB67AE85U;
  }
  return counter;
}

// Two independent standard normals from two words of random bits (Box and Muller). The angle's bits
// as a signed number are a quarter turn either way, for minimax polynomials (5e-8); the last bit,
// which no float of this size keeps, chooses the side of the other half of the circle.
template <class V, class U>
SEGMAMBA_HD void box_muller(U radius_bits, U angle_bits, V& first, V& second) {
  // In (0, 1], with more digits where it is small: up to 6.6 standard deviations.
  const V u = (to_float(to_signed(radius_bits >> 1)) + 0.5F) * 4.656612873e-10F;
  const V radius = sqrt_of(log2_of(u) * -1.386294361F);            // -2 log(2)
  const V x = to_float(to_signed(angle_bits)) * 1.164153218e-10F;  // turns
  const V s = x * x;
  V sine = s * 3.9536706047e+1F - 7.6549782291e+1F;
  sine = sine * s + 8.1601004073e+1F;
  sine = sine * s - 4.1341655031e+1F;
  sine = (sine * s + 6.2831851601F) * x;
  V cosine = s * 5.6242380424e+1F - 8.5240330318e+1F;
  cosine = cosine * s + 6.4934590627e+1F;
  cosine = cosine * s - 1.9739171435e+1F;
  cosine = cosine * s + 9.9999995347e-1F;
  first = radius * as_float(as_int(cosine) ^ to_signed(angle_bits << 31));
  second = radius * sine;
}

// Noise of voxel i of a channel. 16 blocks of Philox give 64 neighbouring voxels: word w of block b
// belongs to voxel 64 (b / 16) + 16 w + b % 16, so that vectors of 4, 8 and 16 blocks write whole
// vectors, and threads of a warp neighbouring numbers.
inline constexpr int kNoiseBlocks = 16, kNoiseVoxels = 64;
SEGMAMBA_HD PhiloxBlock noise_counter(std::uint32_t block, std::int32_t channel) {
  return {{block, 0, static_cast<std::uint32_t>(channel), 0}};
}
SEGMAMBA_HD float normal_noise(std::uint64_t seed, std::int32_t channel, std::int64_t i) {
  const auto block = static_cast<std::uint32_t>(i / kNoiseVoxels * kNoiseBlocks + i % kNoiseBlocks);
  const auto word = static_cast<int>(i % kNoiseVoxels / kNoiseBlocks);
  const PhiloxBlock bits = philox(noise_counter(block, channel), seed, kNoiseRounds);
  float first, second;
  // Not word[word & 2]: registers cannot be indexed.
  const bool is_late = (word & 2) != 0;
  box_muller(is_late ? bits.word[2] : bits.word[0], is_late ? bits.word[3] : bits.word[1], first,
             second);
  return word & 1 ? second : first;
}

// ---- Positions ----------------------------------------------------------------------------------

struct Position {
  std::int32_t at[3];  // z, y, x in 2^-16 voxel
};

// The four cubic B-splines that are not 0 at u in [0, 1] of a cell.
SEGMAMBA_HD void bspline_weights(float u, float* weight) {
  const float v = 1.0F - u;
  weight[0] = v * v * v * (1.0F / 6);
  weight[1] = (u * u * (3.0F * u - 6.0F) + 4.0F) * (1.0F / 6);
  weight[2] = (v * v * (3.0F * v - 6.0F) + 4.0F) * (1.0F / 6);
  weight[3] = u * u * u * (1.0F / 6);
}
// The first of the four control points that move voxel i along patch axis b, and their weights.
SEGMAMBA_HD std::int32_t control_cell(const SpatialMap& map, int b, std::int32_t i, float* weight) {
  const float t = static_cast<float>(map.mirror[b] ? map.size[b] - 1 - i : i) * map.per_spacing;
  const auto cell = static_cast<std::int32_t>(t);
  bspline_weights(t - static_cast<float>(cell), weight);
  return cell;
}

// weight[0], and moves the others up: a loop that is not unrolled walks weights that stay in
// registers, which nothing can index.
template <int kCount>
SEGMAMBA_HD float next_weight(float* weight) {
  const float first = weight[0];
  SEGMAMBA_UNROLL
  for (int k = 1; k < kCount; ++k) weight[k - 1] = weight[k];
  return first;
}

// Without the displacement.
SEGMAMBA_HD Position straight_position(const SpatialMap& map, std::int32_t z, std::int32_t y,
                                       std::int32_t x) {
  Position p;
  for (int a = 0; a < 3; ++a) {
    p.at[a] = map.origin[a] + map.step[a][0] * z + map.step[a][1] * y + map.step[a][2] * x;
  }
  return p;
}
SEGMAMBA_HD Position map_voxel(const SpatialMap& map, const float* displacements, std::int32_t z,
                               std::int32_t y, std::int32_t x) {
  Position p = straight_position(map, z, y, x);
  if (map.points[0] == 0) return p;
  float wz[4], wy[4], wx[4];
  const std::int32_t cz = control_cell(map, 0, z, wz), cy = control_cell(map, 1, y, wy),
                     cx = control_cell(map, 2, x, wx);
  SEGMAMBA_UNROLL
  for (int a = 0; a < 3; ++a) {
    float sum = 0, rest[4] = {wx[0], wx[1], wx[2], wx[3]};
    SEGMAMBA_UNROLL_NONE
    for (int k = 0; k < 4; ++k) {
      float column = 0;
      SEGMAMBA_UNROLL
      for (int j = 0; j < 16; ++j) {
        const std::int64_t row = static_cast<std::int64_t>(cz + j / 4) * map.points[1] + cy + j % 4;
        column += wz[j / 4] * wy[j % 4] * displacements[(row * 3 + a) * map.points[2] + cx + k];
      }
      sum += next_weight<4>(rest) * column;
    }
    p.at[a] += nearest_int(sum * static_cast<float>(kPositionOne));
  }
  return p;
}

template <class I>
SEGMAMBA_HD I whole_part(I position) {
  return position >> kPositionBits;
}
template <class I>
SEGMAMBA_HD auto fraction_of(I position) {
  return to_float(position & (kPositionOne - 1)) * (1.0F / kPositionOne);
}
template <class I>
SEGMAMBA_HD I nearest_voxel(I position) {
  return (position + kPositionOne / 2) >> kPositionBits;
}

// ---- Samples ------------------------------------------------------------------------------------

SEGMAMBA_HD bool is_inside(const CaseView& from, std::int32_t z, std::int32_t y, std::int32_t x) {
  return z >= 0 && y >= 0 && x >= 0 && z < from.size[0] && y < from.size[1] && x < from.size[2];
}
SEGMAMBA_HD std::int64_t voxel_index(const CaseView& from, std::int32_t z, std::int32_t y,
                                     std::int32_t x) {
  return (static_cast<std::int64_t>(z) * from.size[1] + y) * from.size[2] + x;
}
SEGMAMBA_HD float outside_value(const CaseView& from, std::int32_t channel) {
  return from.outside == nullptr ? 0.0F : from.outside[channel];
}
SEGMAMBA_HD float image_value(const CaseView& from, std::int32_t z, std::int32_t y, std::int32_t x,
                              std::int32_t channel) {
  if (!is_inside(from, z, y, x)) return outside_value(from, channel);
  return half_value(from.image[voxel_index(from, z, y, x) * from.channels + channel]);
}
SEGMAMBA_HD std::uint8_t label_value(const CaseView& from, std::int32_t z, std::int32_t y,
                                     std::int32_t x) {
  return is_inside(from, z, y, x) ? from.labels[voxel_index(from, z, y, x)] : std::uint8_t{0};
}

// Weights of the voxels at -1, 0, 1, 2 for a position t in [0, 1): cubic convolution with a = -1/2
// (Keys, "Cubic convolution interpolation for digital image processing", IEEE TASSP 29, 1981).
template <class V>
SEGMAMBA_HD void keys_weights(V t, V* weight) {
  weight[0] = t * (t * (1.0F - 0.5F * t) - 0.5F);
  weight[1] = t * t * (1.5F * t - 2.5F) + 1.0F;
  weight[2] = t * (t * (2.0F - 1.5F * t) + 0.5F);
  weight[3] = t * t * (0.5F * t - 0.5F);
}

SEGMAMBA_HD float sample_linear(const CaseView& from, const Position& p, std::int32_t channel) {
  const std::int32_t z = whole_part(p.at[0]), y = whole_part(p.at[1]), x = whole_part(p.at[2]);
  const float tz = fraction_of(p.at[0]), ty = fraction_of(p.at[1]), tx = fraction_of(p.at[2]);
  const float weight[4] = {(1.0F - tz) * (1.0F - ty), (1.0F - tz) * ty, tz * (1.0F - ty), tz * ty};
  float left = 0, right = 0;
  for (int row = 0; row < 4; ++row) {
    left += weight[row] * image_value(from, z + row / 2, y + row % 2, x, channel);
    right += weight[row] * image_value(from, z + row / 2, y + row % 2, x + 1, channel);
  }
  return left + tx * (right - left);
}

SEGMAMBA_HD float sample_cubic(const CaseView& from, const Position& p, std::int32_t channel) {
  const std::int32_t z = whole_part(p.at[0]), y = whole_part(p.at[1]), x = whole_part(p.at[2]);
  float wz[4], wy[4], wx[4], column[4] = {0, 0, 0, 0};
  keys_weights(fraction_of(p.at[0]), wz);
  keys_weights(fraction_of(p.at[1]), wy);
  keys_weights(fraction_of(p.at[2]), wx);
  for (int row = 0; row < 16; ++row) {
    const float weight = wz[row / 4] * wy[row % 4];
    for (int k = 0; k < 4; ++k) {
      column[k] += weight * image_value(from, z + row / 4 - 1, y + row % 4 - 1, x + k - 1, channel);
    }
  }
  return (wx[0] * column[0] + wx[1] * column[1]) + (wx[2] * column[2] + wx[3] * column[3]);
}

SEGMAMBA_HD std::uint8_t sample_nearest_label(const CaseView& from, const Position& p) {
  return label_value(from, nearest_voxel(p.at[0]), nearest_voxel(p.at[1]), nearest_voxel(p.at[2]));
}

// The label with the largest sum of trilinear weights, the lowest of them where several have it.
// Weights are whole multiples of 2^-48, so a tie is a tie everywhere.
SEGMAMBA_HD std::uint8_t heaviest_label(const std::uint8_t* label, const Position& p) {
  std::int64_t weight[8];
  for (int corner = 0; corner < 8; ++corner) {
    weight[corner] = 1;
    for (int a = 0; a < 3; ++a) {
      const std::int32_t t = p.at[a] & (kPositionOne - 1);
      weight[corner] *= (corner >> (2 - a)) & 1 ? t : kPositionOne - t;
    }
  }
  std::int64_t best_weight = -1;
  std::uint8_t best = 0;
  for (int i = 0; i < 8; ++i) {
    std::int64_t sum = 0;
    for (int j = 0; j < 8; ++j) sum += label[j] == label[i] ? weight[j] : 0;
    if (sum > best_weight || (sum == best_weight && label[i] < best)) {
      best_weight = sum;
      best = label[i];
    }
  }
  return best;
}
SEGMAMBA_HD std::uint8_t sample_linear_label(const CaseView& from, const Position& p) {
  const std::int32_t z = whole_part(p.at[0]), y = whole_part(p.at[1]), x = whole_part(p.at[2]);
  if (z < -1 || y < -1 || x < -1 || z >= from.size[0] || y >= from.size[1] || x >= from.size[2]) {
    return 0;
  }
  std::uint8_t label[8];
  unsigned differences = 0;
  for (int corner = 0; corner < 8; ++corner) {
    label[corner] = label_value(from, z + corner / 4, y + corner / 2 % 2, x + corner % 2);
    differences |= static_cast<unsigned>(label[corner] ^ label[0]);
  }
  return differences == 0 ? label[0] : heaviest_label(label, p);
}

// ---- Neighbours ---------------------------------------------------------------------------------

// Beyond the ends a row goes on mirrored, its last voxel twice: c b a | a b c | c b a (SciPy's
// "reflect").
SEGMAMBA_HD std::int32_t mirrored_index(std::int32_t i, std::int32_t size) {
  while (i < 0 || i >= size) i = i < 0 ? -1 - i : 2 * size - 1 - i;
  return i;
}

// Lower resolution: voxel i of `low` shows the nearest voxel of a row of `size`.
SEGMAMBA_HD std::int32_t low_source(std::int32_t i, std::int32_t size, std::int32_t low) {
  return static_cast<std::int32_t>((2 * static_cast<std::int64_t>(i) + 1) * size / (2 * low));
}
// And back: the voxels of the low row around voxel i, kept within the row, and their weights. 4
// taps where cubic, else 2; voxel centres lie at halves in both rows.
SEGMAMBA_HD void upsampling_taps(std::int32_t i, std::int32_t size, std::int32_t low, bool cubic,
                                 std::int32_t* index, float* weight) {
  const std::int64_t numerator = (2 * static_cast<std::int64_t>(i) + 1) * low - size;
  const std::int64_t denominator = 2 * static_cast<std::int64_t>(size);
  // Rounds down; numerator > -denominator.
  const auto cell = static_cast<std::int32_t>((numerator + denominator) / denominator - 1);
  const float t =
      static_cast<float>(numerator - cell * denominator) / static_cast<float>(denominator);
  if (cubic) {
    keys_weights(t, weight);
  } else {
    weight[0] = 1.0F - t;
    weight[1] = t;
  }
  for (int k = 0; k < (cubic ? 4 : 2); ++k) {
    const std::int32_t at = cell + k - (cubic ? 1 : 0);
    index[k] = at < 0 ? 0 : at >= low ? low - 1 : at;
  }
}

// ---- Intensities --------------------------------------------------------------------------------

// Of the values of a channel.
struct ValueStatistics {
  float min, max;
  double mean, deviation;  // the standard deviation of all values (divided by their number)
};

// min(max(x * scale + shift, low), high): brightness and contrast, and what gamma leaves to do,
// wait in here until a pass writes the values anyway.
struct PointTransform {
  float scale = 1, shift = 0;
  float low = -3.402823466e+38F, high = 3.402823466e+38F;
};
template <class V>
SEGMAMBA_HD V apply(const PointTransform& point, V v) {
  return smaller_of(larger_of(v * point.scale + point.shift, V{} + point.low), V{} + point.high);
}
// `values` are those before `point`; it must not clip yet.
SEGMAMBA_HD PointTransform then_contrast(const PointTransform& point, const ValueStatistics& values,
                                         float contrast, bool preserve_range) {
  PointTransform result;
  const double mean = values.mean * point.scale + point.shift;
  result.scale = point.scale * contrast;
  result.shift = static_cast<float>((point.shift - mean) * contrast + mean);
  if (preserve_range) {
    const float a = apply(point, values.min), b = apply(point, values.max);
    result.low = a < b ? a : b;
    result.high = a < b ? b : a;
  }
  return result;
}

// Gamma: t = (x - min) / (max - min + 1e-7) of x or -x, then t^power, in two halves around the
// power, whose statistics the second half needs.
struct GammaInput {
  PointTransform point;
  float sign, min, per_range;
  float power;
};
inline constexpr double kGammaEpsilon = 1e-7, kDeviationEpsilon = 1e-8;
// `min` and `max` are those of the values before `point`.
SEGMAMBA_HD GammaInput gamma_input(const PointTransform& point, float min, float max, bool inverted,
                                   float power) {
  const float sign = inverted ? -1.0F : 1.0F;
  const float a = sign * apply(point, min), b = sign * apply(point, max);
  const float low = a < b ? a : b, high = a < b ? b : a;
  return {point, sign, low, static_cast<float>(1 / (high - low + kGammaEpsilon)), power};
}
// Never 0, which has no logarithm: 2^-126 to a power of 0.2 or more is 3e-8 or less.
template <class V>
SEGMAMBA_HD V gamma_base(const GammaInput& in, V v) {
  const V t = (apply(in.point, v) * in.sign - in.min) * in.per_range;
  return smaller_of(larger_of(t, V{} + 1.17549435e-38F), V{} + 1.0F);
}
// What turns t^power into the value; `before` are the statistics of t, `after` those of t^power.
SEGMAMBA_HD PointTransform gamma_output(const GammaInput& in, bool retain,
                                        const ValueStatistics& before,
                                        const ValueStatistics& after) {
  const double range = 1.0 / in.per_range;
  double scale = range, shift = in.min;
  if (retain) {
    scale = range / (after.deviation * range + kDeviationEpsilon) * (before.deviation * range);
    shift = before.mean * range + in.min - after.mean * scale;
  }
  PointTransform result;
  result.scale = static_cast<float>(in.sign * scale);
  result.shift = static_cast<float>(in.sign * shift);
  return result;
}

}  // namespace segmamba::kernels
