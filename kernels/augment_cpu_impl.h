#pragma once
// Included by augment_cpu_<set>.cpp only, each compiled for its own instruction set; the rules of
// cpu_lanes_impl.h on linkage hold here too.

#include "augment_cpu.h"
#include "lanes.h"

namespace segmamba::kernels {
namespace {

constexpr int kWidth = kLanes<float>;

SEGMAMBA_LANES IntLanes as_int(FloatLanes v) { return (IntLanes)v; }
SEGMAMBA_LANES FloatLanes as_float(IntLanes v) { return (FloatLanes)v; }
SEGMAMBA_LANES FloatLanes to_float(IntLanes v) { return __builtin_convertvector(v, FloatLanes); }
SEGMAMBA_LANES IntLanes to_signed(BitLanes v) { return (IntLanes)v; }
SEGMAMBA_LANES IntLanes nearest_int(FloatLanes v) {
#if defined(__AVX512F__)
  return (IntLanes)_mm512_maskz_cvtps_epi32(0xffff, v);  // GCC 12 warns of the plain form
#elif defined(__AVX2__)
  return (IntLanes)_mm256_cvtps_epi32(v);
#else
  IntLanes r;
  for (int i = 0; i < kWidth; ++i) r[i] = static_cast<std::int32_t>(__builtin_rintf(v[i]));
  return r;
#endif
}
SEGMAMBA_LANES FloatLanes sqrt_of(FloatLanes v) {
#if defined(__AVX512F__)
  return _mm512_maskz_sqrt_ps(0xffff, v);
#elif defined(__AVX2__)
  return _mm256_sqrt_ps(v);
#else
  for (int i = 0; i < kWidth; ++i) v[i] = __builtin_sqrtf(v[i]);
  return v;
#endif
}

// The second where one is NaN, as the processor has it.
SEGMAMBA_LANES FloatLanes smaller_of(FloatLanes a, FloatLanes b) {
#if defined(__AVX512F__)
  return _mm512_maskz_min_ps(0xffff, a, b);
#elif defined(__AVX2__)
  return _mm256_min_ps(a, b);
#else
  return a < b ? a : b;
#endif
}
SEGMAMBA_LANES FloatLanes larger_of(FloatLanes a, FloatLanes b) {
#if defined(__AVX512F__)
  return _mm512_maskz_max_ps(0xffff, a, b);
#elif defined(__AVX2__)
  return _mm256_max_ps(a, b);
#else
  return a > b ? a : b;
#endif
}

}  // namespace
}  // namespace segmamba::kernels

#include "augment_math.cuh"

namespace segmamba::kernels {
namespace {

// Four channels of a voxel; two and four voxels of them.
using Float4 = float __attribute__((vector_size(16)));
using Float8 = float __attribute__((vector_size(32)));
using Float16Values = float __attribute__((vector_size(64)));
using Half4 = std::uint16_t __attribute__((vector_size(8)));
using Half8 = std::uint16_t __attribute__((vector_size(16)));
using Half16 = std::uint16_t __attribute__((vector_size(32)));

template <class T, class From>
SEGMAMBA_LANES T read(const From* from) {
  T v;
  std::memcpy(&v, from, sizeof v);
  return v;
}
template <class T, class To>
SEGMAMBA_LANES void write(To* to, T v) {
  std::memcpy(to, &v, sizeof v);
}

#if !defined(__F16C__)
using Bits4 = std::uint32_t __attribute__((vector_size(16)));
using Bits8 = std::uint32_t __attribute__((vector_size(32)));
template <class Floats, class Bits, class Halves>
SEGMAMBA_LANES Floats convert_halves(Halves bits) {
  const Bits wide = __builtin_convertvector(bits, Bits);
  const Bits magnitude = (Bits)((Floats)((wide & 0x7fffU) << 13) * 0x1p112F);
  const Bits finite = (wide & 0x7c00U) == 0x7c00U ? (magnitude | 0x7f800000U) : magnitude;
  return (Floats)(finite | ((wide & 0x8000U) << 16));
}
#endif
SEGMAMBA_LANES Float4 floats_of_4(Half4 bits) {
#if defined(__F16C__)
  return _mm_cvtph_ps(_mm_cvtsi64_si128((long long)bits));
#else
  return convert_halves<Float4, Bits4>(bits);
#endif
}
SEGMAMBA_LANES Float8 floats_of_8(Half8 bits) {
#if defined(__F16C__)
  return _mm256_cvtph_ps((__m128i)bits);
#else
  return convert_halves<Float8, Bits8>(bits);
#endif
}
SEGMAMBA_LANES Float16Values floats_of_16(Half16 bits) {
#if defined(__AVX512F__)
  return _mm512_maskz_cvtph_ps(0xffff, (__m256i)bits);
#else
  const Float8 low = floats_of_8(__builtin_shufflevector(bits, bits, 0, 1, 2, 3, 4, 5, 6, 7));
  const Float8 high =
      floats_of_8(__builtin_shufflevector(bits, bits, 8, 9, 10, 11, 12, 13, 14, 15));
  return __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
#endif
}

SEGMAMBA_LANES bool all_true(IntLanes mask) {
#if defined(__AVX512F__)
  return _mm512_movepi32_mask((__m512i)mask) == 0xffff;
#elif defined(__AVX2__)
  return _mm256_movemask_ps((__m256)mask) == 0xff;
#else
  std::int32_t all = -1;
  for (int i = 0; i < kWidth; ++i) all &= mask[i];
  return all != 0;
#endif
}

// Four voxels of up to four channels each, as four channels of up to `count` voxels.
SEGMAMBA_LANES void write_transposed(const Float4* v, float* const* out, int channels,
                                     std::int32_t at, std::int32_t count) {
  const Float4 low0 = __builtin_shufflevector(v[0], v[1], 0, 4, 1, 5);
  const Float4 low1 = __builtin_shufflevector(v[2], v[3], 0, 4, 1, 5);
  const Float4 high0 = __builtin_shufflevector(v[0], v[1], 2, 6, 3, 7);
  const Float4 high1 = __builtin_shufflevector(v[2], v[3], 2, 6, 3, 7);
  const Float4 channel[4] = {__builtin_shufflevector(low0, low1, 0, 1, 4, 5),
                             __builtin_shufflevector(low0, low1, 2, 3, 6, 7),
                             __builtin_shufflevector(high0, high1, 0, 1, 4, 5),
                             __builtin_shufflevector(high0, high1, 2, 3, 6, 7)};
#pragma GCC unroll 4
  for (int c = 0; c < 4; ++c) {
    if (c >= channels) break;
    if (count >= 4) {
      write(out[c] + at, channel[c]);
    } else {
      std::memcpy(out[c] + at, &channel[c], sizeof(float) * count);
    }
  }
}

// Up to four channels of a voxel, the others 0 or of the next voxel, but nothing beyond `end`.
SEGMAMBA_LANES Float4 read_channels(const std::uint16_t* at, const std::uint16_t* end) {
  if (end - at >= 4) return floats_of_4(read<Half4>(at));
  Half4 bits{};
  if (end > at) std::memcpy(&bits, at, sizeof *at * (end - at));
  return floats_of_4(bits);
}

SEGMAMBA_LANES const std::uint16_t* image_end(const CaseView& from) {
  return from.image + std::int64_t{from.size[0]} * from.size[1] * from.size[2] * from.channels;
}

// ---- Copies -------------------------------------------------------------------------------------

void copy_row(const CaseView& from, const std::uint16_t* row, bool reversed, std::int32_t count,
              float* const* out) {
  const std::uint16_t* const end = image_end(from);
  const int channels = from.channels;
  for (int first = 0; first < channels; first += 4) {
    const int group = channels - first < 4 ? channels - first : 4;
    std::int32_t i = 0;
#if defined(__AVX512BW__)
    if (channels == 4) {
      using Half32 = std::uint16_t __attribute__((vector_size(64)));
      const auto halves_of = [](Half32 v, int c) {
        return c == 0 ? __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13,
                                                14, 15)
                      : __builtin_shufflevector(v, v, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26,
                                                27, 28, 29, 30, 31);
      };
      const auto turned = [](Float16Values v) {
        return __builtin_shufflevector(v, v, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
      };
      for (; i + 16 <= count; i += 16) {
        const std::uint16_t* const at = row + std::int64_t{reversed ? count - 16 - i : i} * 4;
        const auto a = read<Half32>(at), b = read<Half32>(at + 32);
        const Half32 first_two = __builtin_shufflevector(
            a, b, 0, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44, 48, 52, 56, 60, 1, 5, 9, 13, 17, 21,
            25, 29, 33, 37, 41, 45, 49, 53, 57, 61);
        const Half32 last_two = __builtin_shufflevector(a, b, 2, 6, 10, 14, 18, 22, 26, 30, 34, 38,
                                                        42, 46, 50, 54, 58, 62, 3, 7, 11, 15, 19,
                                                        23, 27, 31, 35, 39, 43, 47, 51, 55, 59, 63);
#pragma GCC unroll 4
        for (int c = 0; c < 4; ++c) {
          const Float16Values v = floats_of_16(halves_of(c < 2 ? first_two : last_two, c % 2));
          write(out[c] + i, reversed ? turned(v) : v);
        }
      }
    }
#endif
    for (; i < count; i += 4) {
      Float4 voxel[4];
#pragma GCC unroll 4
      for (int k = 0; k < 4; ++k) {
        std::int32_t at = i + k < count ? i + k : count - 1;
        if (reversed) at = count - 1 - at;
        voxel[k] = read_channels(row + std::int64_t{at} * channels + first, end);
      }
      write_transposed(voxel, out + first, group, i, count - i);
    }
  }
}

// ---- Positions ----------------------------------------------------------------------------------

void positions(const std::int32_t* start, const std::int32_t* step, const RowDisplacement& moved,
               std::int32_t count, const RowPositions& to) {
  IntLanes lane;
  for (int i = 0; i < kWidth; ++i) lane[i] = i;
  for (int a = 0; a < 3; ++a) {
    IntLanes at = start[a] + step[a] * lane;
    for (std::int32_t i = 0; i < count; i += kWidth) {
      write(to.at[a] + i, at);
      at += kWidth * step[a];
    }
  }
  if (moved.points == nullptr) return;
  for (std::int32_t begin = 0; begin < count;) {
    const std::int32_t cell = moved.cells[begin];
    std::int32_t end = begin + 1;
    while (end < count && moved.cells[end] == cell) ++end;
    for (std::int32_t i = begin; i < end; i += kWidth) {
      FloatLanes weight[4];
#pragma GCC unroll 4
      for (int k = 0; k < 4; ++k) weight[k] = load(moved.weights + k * moved.weight_stride + i);
      // Lanes beyond the cell belong to the next one.
      const IntLanes mine = lane < end - i;
#pragma GCC unroll 3
      for (int a = 0; a < 3; ++a) {
        const float* const points = moved.points + a * moved.count + cell;
        FloatLanes sum = weight[0] * points[0];
        for (int k = 1; k < 4; ++k) sum += weight[k] * points[k];
        const IntLanes shift = nearest_int(sum * static_cast<float>(kPositionOne));
        write(to.at[a] + i, read<IntLanes>(to.at[a] + i) + (shift & mine));
      }
    }
    begin = end;
  }
}

// ---- Samples ------------------------------------------------------------------------------------

// A vector of voxels ready to be sampled: which have all their taps in the case, the index of the
// tap nearest to the case's first voxel (0 for the others), and weights.
// NOLINTNEXTLINE(clang-analyzer-optin.performance.Padding): that is what the alignment is
struct SampleBlock {
  alignas(64) std::int32_t inside[kWidth];
  alignas(64) std::int32_t index[kWidth];
  alignas(64) float weight[12][kWidth];
  bool all_inside, all_outside;
};

// The voxels of a row of taps that exist, around a position near the case's border.
template <int kTaps>
struct BorderTaps {
  std::int32_t first, last;  // taps that exist: [first, last)
  std::int64_t at;           // voxel of tap 0
  float weight[kTaps];

  SEGMAMBA_LANES float sum() const {
    float sum = 0;
    for (std::int32_t k = first; k < last; ++k) sum += weight[k];
    return sum;
  }
  SEGMAMBA_LANES bool is_whole() const { return first == 0 && last == kTaps; }
};
template <int kTaps>
SEGMAMBA_LANES BorderTaps<kTaps> border_taps(std::int32_t position, std::int32_t size) {
  BorderTaps<kTaps> taps;
  const float t = fraction_of(position);
  if constexpr (kTaps == 4) {
    keys_weights(t, taps.weight);
  } else {
    taps.weight[0] = 1.0F - t;
    taps.weight[1] = t;
  }
  const std::int32_t at = whole_part(position) - (kTaps == 4 ? 1 : 0);
  taps.at = at;
  taps.first = at < 0 ? -at : 0;
  taps.last = size - at < kTaps ? size - at : kTaps;
  return taps;
}

// Not for speed, but border voxels can be many.
template <int kTaps>
__attribute__((noinline)) void sample_border(const CaseView& from, const std::uint16_t* end,
                                             std::int32_t z, std::int32_t y, std::int32_t x,
                                             int channel, Float4* out) {
  const auto tz = border_taps<kTaps>(z, from.size[0]), ty = border_taps<kTaps>(y, from.size[1]),
             tx = border_taps<kTaps>(x, from.size[2]);
  Float4 column[kTaps] = {};
  for (std::int32_t i = tz.first; i < tz.last; ++i) {
    for (std::int32_t j = ty.first; j < ty.last; ++j) {
      const float weight = tz.weight[i] * ty.weight[j];
      const std::int64_t row = ((tz.at + i) * from.size[1] + ty.at + j) * from.size[2] + tx.at;
      for (std::int32_t k = tx.first; k < tx.last; ++k) {
        column[k] += weight * read_channels(from.image + (row + k) * from.channels + channel, end);
      }
    }
  }
  if constexpr (kTaps == 4) {
    *out = (tx.weight[0] * column[0] + tx.weight[1] * column[1]) +
           (tx.weight[2] * column[2] + tx.weight[3] * column[3]);
  } else {
    *out = column[0] + tx.weight[1] * (column[1] - column[0]);
  }
  if (from.outside == nullptr || (tz.is_whole() && ty.is_whole() && tx.is_whole())) return;
  // The taps that do not exist have what the others leave of a weight of 1.
  const float missing = 1.0F - tz.sum() * ty.sum() * tx.sum();
  for (int c = 0; c < 4 && channel + c < from.channels; ++c) {
    (*out)[c] += missing * from.outside[channel + c];
  }
}

// `before` and `after`: taps on either side of the voxel at or below the position.
SEGMAMBA_LANES void prepare_block(const CaseView& from, IntLanes z, IntLanes y, IntLanes x,
                                  int before, int after, SampleBlock& block) {
  const IntLanes at_z = whole_part(z) - before, at_y = whole_part(y) - before,
                 at_x = whole_part(x) - before;
  const int reach = before + after;
  const auto below = [reach](IntLanes at, std::int32_t size) {
    const IntLanes limit = IntLanes{} + (size - reach);
    return (at >= 0) & (at < limit);
  };
  IntLanes inside =
      below(at_z, from.size[0]) & below(at_y, from.size[1]) & below(at_x, from.size[2]);
  const IntLanes index = (at_z * from.size[1] + at_y) * from.size[2] + at_x;
  // Four channels are read where a voxel has fewer: not in the case's last voxels.
  if (from.channels % 4 != 0) {
    const std::int64_t last =
        std::int64_t{from.size[0]} * from.size[1] * from.size[2] -
        reach * (std::int64_t{from.size[1]} * from.size[2] + from.size[2] + 1) - 3;
    inside &= index < static_cast<std::int32_t>(last);
  }
  // No tap in the case.
  const auto beyond = [reach](IntLanes at, std::int32_t size) {
    return (at < -reach) | (at >= size);
  };
  block.all_outside = all_true(beyond(at_z, from.size[0]) | beyond(at_y, from.size[1]) |
                               beyond(at_x, from.size[2]));
  block.all_inside = all_true(inside);
  write(block.inside, inside);
  write(block.index, index & inside);
}

template <bool kCubic>
SEGMAMBA_LANES void block_weights(IntLanes z, IntLanes y, IntLanes x, SampleBlock& block) {
  const FloatLanes tz = fraction_of(z), ty = fraction_of(y), tx = fraction_of(x);
  if constexpr (kCubic) {
    FloatLanes weight[4];
    const FloatLanes position[3] = {tz, ty, tx};
#pragma GCC unroll 3
    for (int a = 0; a < 3; ++a) {
      keys_weights(position[a], weight);
#pragma GCC unroll 4
      for (int k = 0; k < 4; ++k) write(block.weight[a * 4 + k], weight[k]);
    }
  } else {
    write(block.weight[0], (1.0F - tz) * (1.0F - ty));
    write(block.weight[1], (1.0F - tz) * ty);
    write(block.weight[2], tz * (1.0F - ty));
    write(block.weight[3], tz * ty);
    write(block.weight[4], tx);
  }
}

// Two neighbouring voxels of a row, four channels each.
template <bool kFour>
SEGMAMBA_LANES Float8 read_pair(const std::uint16_t* at, std::int64_t next) {
  if constexpr (kFour) {
    return floats_of_8(read<Half8>(at));
  } else {
    const Half4 a = read<Half4>(at), b = read<Half4>(at + next);
    return floats_of_8(__builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7));
  }
}
template <bool kFour>
SEGMAMBA_LANES Float16Values read_four(const std::uint16_t* at, std::int64_t next) {
  if constexpr (kFour) {
    return floats_of_16(read<Half16>(at));
  } else {
    using Words = std::uint64_t __attribute__((vector_size(32)));
    const Words words = {read<std::uint64_t>(at), read<std::uint64_t>(at + next),
                         read<std::uint64_t>(at + 2 * next), read<std::uint64_t>(at + 3 * next)};
    return floats_of_16((Half16)words);
  }
}

template <bool kCubic, bool kFour>
SEGMAMBA_LANES Float4 sample_inside(const std::uint16_t* at, std::int64_t plane, std::int64_t row,
                                    std::int64_t next, const SampleBlock& block, int i) {
  if constexpr (kCubic) {
    // In halves where vectors are shorter: GCC takes wider ones apart voxel by voxel.
    using Part = std::conditional_t<(kLaneBytes >= 64), Float16Values, Float8>;
    constexpr int kParts = kLaneBytes >= 64 ? 1 : 2;
    Part column[kParts] = {};
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      Part slice[kParts] = {};
#pragma GCC unroll 4
      for (int k = 0; k < 4; ++k) {
        const std::uint16_t* const taps = at + j * plane + k * row;
        if constexpr (kParts == 1) {
          slice[0] += block.weight[4 + k][i] * read_four<kFour>(taps, next);
        } else {
          slice[0] += block.weight[4 + k][i] * read_pair<kFour>(taps, next);
          slice[1] += block.weight[4 + k][i] * read_pair<kFour>(taps + 2 * next, next);
        }
      }
      for (int part = 0; part < kParts; ++part) column[part] += block.weight[j][i] * slice[part];
    }
    Float4 tap[4];
    memcpy(tap, column, sizeof tap);
    const Float4 c0 = tap[0], c1 = tap[1], c2 = tap[2], c3 = tap[3];
    return (block.weight[8][i] * c0 + block.weight[9][i] * c1) +
           (block.weight[10][i] * c2 + block.weight[11][i] * c3);
  } else {
    const Float8 pair = (block.weight[0][i] * read_pair<kFour>(at, next) +
                         block.weight[1][i] * read_pair<kFour>(at + row, next)) +
                        (block.weight[2][i] * read_pair<kFour>(at + plane, next) +
                         block.weight[3][i] * read_pair<kFour>(at + plane + row, next));
    const Float4 left = __builtin_shufflevector(pair, pair, 0, 1, 2, 3);
    const Float4 right = __builtin_shufflevector(pair, pair, 4, 5, 6, 7);
    return left + block.weight[4][i] * (right - left);
  }
}

template <bool kCubic, bool kFour>
void sample_row_as(const CaseView& from, const RowPositions& positions, std::int32_t count,
                   float* const* out) {
  constexpr int kTaps = kCubic ? 4 : 2;
  const std::uint16_t* const end = image_end(from);
  const std::int64_t next = kFour ? 4 : from.channels, row = next * from.size[2],
                     plane = row * from.size[1];
  for (std::int32_t i = 0; i < count; i += kWidth) {
    const auto z = read<IntLanes>(positions.at[0] + i), y = read<IntLanes>(positions.at[1] + i),
               x = read<IntLanes>(positions.at[2] + i);
    SampleBlock block;
    prepare_block(from, z, y, x, kCubic ? 1 : 0, kCubic ? 2 : 1, block);
    if (block.all_outside) {
      const int lanes = count - i < kWidth ? count - i : kWidth;
      for (int c = 0; c < from.channels; ++c) {
        store(out[c] + i, FloatLanes{} + outside_value(from, c), lanes);
      }
      continue;
    }
    block_weights<kCubic>(z, y, x, block);
    for (int first = 0; first < next; first += 4) {
      const int group = kFour ? 4 : next - first < 4 ? static_cast<int>(next) - first : 4;
      for (int part = 0; part < kWidth && i + part < count; part += 4) {
        Float4 voxel[4];
        if (block.all_inside) {
#pragma GCC unroll 4
          for (int k = 0; k < 4; ++k) {
            voxel[k] =
                sample_inside<kCubic, kFour>(from.image + block.index[part + k] * next + first,
                                             plane, row, next, block, part + k);
          }
        } else {
          for (int k = 0; k < 4; ++k) {
            if (block.inside[part + k] != 0) {
              voxel[k] =
                  sample_inside<kCubic, kFour>(from.image + block.index[part + k] * next + first,
                                               plane, row, next, block, part + k);
            } else {
              const std::int32_t at = i + part + k;
              sample_border<kTaps>(from, end, positions.at[0][at], positions.at[1][at],
                                   positions.at[2][at], first, &voxel[k]);
            }
          }
        }
        write_transposed(voxel, out + first, group, i + part, count - i - part);
      }
    }
  }
}

void sample_row(const CaseView& from, const RowPositions& positions, bool cubic, std::int32_t count,
                float* const* out) {
  if (from.channels == 4) {
    cubic ? sample_row_as<true, true>(from, positions, count, out)
          : sample_row_as<false, true>(from, positions, count, out);
  } else {
    cubic ? sample_row_as<true, false>(from, positions, count, out)
          : sample_row_as<false, false>(from, positions, count, out);
  }
}

void label_row(const CaseView& from, const RowPositions& positions, bool linear, std::int32_t count,
               std::uint8_t* out) {
  const std::int64_t row = from.size[2], plane = row * from.size[1];
  alignas(64) std::int32_t index[kWidth], inside[kWidth];
  for (std::int32_t i = 0; i < count; i += kWidth) {
    const auto z = read<IntLanes>(positions.at[0] + i), y = read<IntLanes>(positions.at[1] + i),
               x = read<IntLanes>(positions.at[2] + i);
    const IntLanes at_z = linear ? whole_part(z) : nearest_voxel(z),
                   at_y = linear ? whole_part(y) : nearest_voxel(y),
                   at_x = linear ? whole_part(x) : nearest_voxel(x);
    const auto within = [reach = linear ? 1 : 0](IntLanes at, std::int32_t size) {
      const IntLanes limit = IntLanes{} + (size - reach);
      return (at >= 0) & (at < limit);
    };
    const IntLanes mask =
        within(at_z, from.size[0]) & within(at_y, from.size[1]) & within(at_x, from.size[2]);
    write(inside, mask);
    write(index, ((at_z * from.size[1] + at_y) * from.size[2] + at_x) & mask);
    const int lanes = count - i < kWidth ? count - i : kWidth;
    if (!linear) {
      for (int k = 0; k < lanes; ++k) {
        out[i + k] = static_cast<std::uint8_t>(from.labels[index[k]] & inside[k]);
      }
      continue;
    }
    for (int k = 0; k < lanes; ++k) {
      const Position p = {{positions.at[0][i + k], positions.at[1][i + k], positions.at[2][i + k]}};
      if (inside[k] == 0) {
        out[i + k] = sample_linear_label(from, p);
        continue;
      }
      const std::uint8_t* const at = from.labels + index[k];
      const auto a = read<std::uint16_t>(at), b = read<std::uint16_t>(at + row),
                 c = read<std::uint16_t>(at + plane), d = read<std::uint16_t>(at + plane + row);
      const unsigned differences = (a ^ b) | (a ^ c) | (a ^ d) | ((a ^ (a >> 8)) & 0xffU);
      if (differences == 0) {
        out[i + k] = static_cast<std::uint8_t>(a & 0xffU);
        continue;
      }
      const std::uint8_t label[8] = {
          at[0],     at[1],         at[row],         at[row + 1],
          at[plane], at[plane + 1], at[plane + row], at[plane + row + 1]};
      out[i + k] = heaviest_label(label, p);
    }
  }
}

// ---- Noise --------------------------------------------------------------------------------------

// Words of kWidth neighbouring blocks. Two vectors of 64-bit lanes, for even and odd blocks: the
// multiplication takes their low halves and ignores the high ones, so nothing has to be put back
// into order between rounds.
#if defined(__SSE2__)
using WideLanes = std::uint64_t __attribute__((vector_size(kLaneBytes)));
SEGMAMBA_LANES WideLanes multiply_low(WideLanes a, WideLanes b) {
#if defined(__AVX512F__)
  return (WideLanes)_mm512_maskz_mul_epu32(0xff, (__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
  return (WideLanes)_mm256_mul_epu32((__m256i)a, (__m256i)b);
#else
  return (WideLanes)__builtin_ia32_pmuludq128((IntLanes)a, (IntLanes)b);
#endif
}
// The high half of each 64-bit lane, in the low one; what is left in the high one does not matter.
// By a shuffle: shifts would wait for the multiplications' port.
template <int... kIndex>
SEGMAMBA_LANES WideLanes high_halves(WideLanes v, std::integer_sequence<int, kIndex...>) {
  return (WideLanes)__builtin_shufflevector((BitLanes)v, (BitLanes)v, (kIndex | 1)...);
}
SEGMAMBA_LANES WideLanes high_halves(WideLanes v) {
  return high_halves(v, std::make_integer_sequence<int, kWidth>{});
}
SEGMAMBA_LANES void philox_lanes(std::uint32_t block, std::int32_t channel, std::uint64_t key,
                                 BitLanes* word) {
  WideLanes counter[2][4];
  WideLanes lane;
  for (int i = 0; i < kWidth / 2; ++i) lane[i] = 2 * static_cast<std::uint64_t>(i);
#pragma GCC unroll 2
  for (int odd = 0; odd < 2; ++odd) {
    counter[odd][0] = lane + (block + static_cast<std::uint64_t>(odd));
    counter[odd][1] = counter[odd][3] = WideLanes{};
    counter[odd][2] = WideLanes{} + static_cast<std::uint32_t>(channel);
  }
  std::uint32_t k0 = static_cast<std::uint32_t>(key), k1 = static_cast<std::uint32_t>(key >> 32);
  const WideLanes m0 = WideLanes{} + 0xD2511F53U, m1 = WideLanes{} + 0xCD9E8D57U;
#pragma GCC unroll 10
  for (int round = 0; round < kNoiseRounds; ++round) {
#pragma GCC unroll 2
    for (int odd = 0; odd < 2; ++odd) {
      WideLanes* const c = counter[odd];
      const WideLanes p0 = multiply_low(c[0], m0), p1 = multiply_low(c[2], m1);
      c[0] = high_halves(p1) ^ c[1] ^ k0;
      c[1] = p1;
      c[2] = high_halves(p0) ^ c[3] ^ k1;
      c[3] = p0;
    }
    k0 += 0x9E3779B9U;
    k1 += 0xBB67AE85U;
  }
#pragma GCC unroll 4
  for (int w = 0; w < 4; ++w) {
    word[w] = (BitLanes)((counter[0][w] & 0xffffffffU) | (counter[1][w] << 32));
  }
}
#else
SEGMAMBA_LANES void philox_lanes(std::uint32_t block, std::int32_t channel, std::uint64_t key,
                                 BitLanes* word) {
  for (int i = 0; i < kWidth; ++i) {
    const PhiloxBlock bits =
        philox(noise_counter(block + static_cast<std::uint32_t>(i), channel), key, kNoiseRounds);
    for (int w = 0; w < 4; ++w) word[w][i] = bits.word[w];
  }
}
#endif

void add_noise(float* values, std::int64_t first, std::int64_t count, float deviation,
               std::uint64_t seed, std::int32_t channel) {
  const std::int64_t begin = first / kNoiseVoxels, end = (first + count - 1) / kNoiseVoxels;
  for (std::int64_t group = begin; group <= end; ++group) {
    const std::int64_t voxel = group * kNoiseVoxels - first;
    const bool whole = voxel >= 0 && voxel + kNoiseVoxels <= count;
    for (int part = 0; part < kNoiseBlocks; part += kWidth) {
      BitLanes word[4];
      philox_lanes(static_cast<std::uint32_t>(group * kNoiseBlocks + part), channel, seed, word);
#pragma GCC unroll 4
      for (int w = 0; w < 4; w += 2) {
        FloatLanes normal[2];
        box_muller(word[w], word[w + 1], normal[0], normal[1]);
#pragma GCC unroll 2
        for (int k = 0; k < 2; ++k) {
          const std::int64_t at = voxel + (w + k) * kNoiseBlocks + part;
          if (whole) {
            store(values + at, load(values + at) + deviation * normal[k]);
            continue;
          }
          for (int i = 0; i < kWidth; ++i) {
            if (at + i >= 0 && at + i < count) values[at + i] += deviation * normal[k][i];
          }
        }
      }
    }
  }
}

// ---- Sums of rows -------------------------------------------------------------------------------

void combine(const float* const* rows, const float* weights, std::int32_t taps, std::int64_t count,
             float* out) {
  std::int64_t i = 0;
  for (; i + 4 * kWidth <= count; i += 4 * kWidth) {
    FloatLanes sum[4] = {};
    for (std::int32_t k = 0; k < taps; ++k) {
      const FloatLanes weight = FloatLanes{} + weights[k];
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) sum[j] += weight * load(rows[k] + i + j * kWidth);
    }
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) store(out + i + j * kWidth, sum[j]);
  }
  for (; i < count; i += kWidth) {
    const int lanes = count - i < kWidth ? static_cast<int>(count - i) : kWidth;
    FloatLanes sum{};
    for (std::int32_t k = 0; k < taps; ++k) sum += weights[k] * load(rows[k] + i, lanes);
    store(out + i, sum, lanes);
  }
}

// from[index], for indices of at most 2 * kWidth neighbouring numbers.
SEGMAMBA_LANES FloatLanes gather_near(const float* from, IntLanes index) {
#if defined(__AVX512F__)
  return _mm512_maskz_permutex2var_ps(0xffff, load(from), (__m512i)index, load(from + kWidth));
#elif defined(__AVX2__)
  const FloatLanes low = _mm256_permutevar8x32_ps(load(from), (__m256i)index),
                   high = _mm256_permutevar8x32_ps(load(from + kWidth), (__m256i)index);
  return index < kWidth ? low : high;
#else
  FloatLanes v;
  for (int i = 0; i < kWidth; ++i) v[i] = from[index[i]];
  return v;
#endif
}

void upsample(const float* from, const std::int32_t* indices, const float* weights,
              std::int64_t stride, std::int32_t taps, std::int64_t count, float* out) {
  for (std::int64_t i = 0; i < count; i += kWidth) {
    const std::int32_t first = indices[i];
    FloatLanes sum{};
    for (std::int32_t k = 0; k < taps; ++k) {
      sum += load(weights + k * stride + i) *
             gather_near(from + first, read<IntLanes>(indices + k * stride + i) - first);
    }
    store(out + i, sum, count - i < kWidth ? static_cast<int>(count - i) : kWidth);
  }
}

// ---- Intensities --------------------------------------------------------------------------------

void point(const PointTransform& point, float* values, std::int64_t count) {
  for (std::int64_t i = 0; i < count; i += kWidth) {
    const int lanes = count - i < kWidth ? static_cast<int>(count - i) : kWidth;
    store(values + i, apply(point, load(values + i, lanes)), lanes);
  }
}

void point_to(const PointTransform& point, const float* from, float* to, std::int64_t count) {
  std::int64_t i = 0;
#if defined(__SSE2__)
  if (reinterpret_cast<std::uintptr_t>(to) % 64 == 0) {
    for (; i + kWidth <= count; i += kWidth) {
      const FloatLanes v = apply(point, load(from + i));
#if defined(__AVX512F__)
      _mm512_stream_ps(to + i, v);
#elif defined(__AVX2__)
      _mm256_stream_ps(to + i, v);
#else
      _mm_stream_ps(to + i, v);
#endif
    }
  }
#endif
  for (; i < count; i += kWidth) {
    const int lanes = count - i < kWidth ? static_cast<int>(count - i) : kWidth;
    store(to + i, apply(point, load(from + i, lanes)), lanes);
  }
}

void finish_stores() {
#if defined(__SSE2__)
  __builtin_ia32_sfence();
#endif
}

// Sums are kept in floats over kPart vectors, then over kParts such sums, then in doubles.
constexpr std::int64_t kPart = 32 * kWidth, kParts = 32;
struct LaneSums {
  FloatLanes min = FloatLanes{} + 3.402823466e+38F, max = FloatLanes{} - 3.402823466e+38F;
  FloatLanes sum{}, squares{};

  SEGMAMBA_LANES void add(FloatLanes v) {
    min = smaller_of(v, min);
    max = larger_of(v, max);
    sum += v;
    squares += v * v;
  }
  // `lanes` of v count.
  SEGMAMBA_LANES void add(FloatLanes v, int lanes) {
    if (lanes == kWidth) return add(v);
    IntLanes lane;
    for (int i = 0; i < kWidth; ++i) lane[i] = i;
    const IntLanes mine = lane < lanes;
    min = mine ? (v < min ? v : min) : min;
    max = mine ? (v > max ? v : max) : max;
    v = mine ? v : FloatLanes{};
    sum += v;
    squares += v * v;
  }
  SEGMAMBA_LANES void add(const LaneSums& other) {
    min = other.min < min ? other.min : min;
    max = other.max > max ? other.max : max;
    sum += other.sum;
    squares += other.squares;
  }
  SEGMAMBA_LANES void add_to(ValueSums& sums, std::int64_t count) const {
    for (int i = 0; i < kWidth; ++i) {
      sums.min = min[i] < sums.min ? min[i] : sums.min;
      sums.max = max[i] > sums.max ? max[i] : sums.max;
      sums.sum += sum[i];
      sums.squares += squares[i];
    }
    sums.count += count;
  }
};

// Calls part(first, count) for parts of at most kPart values, and done(count) after kParts of them.
template <class Part, class Done>
SEGMAMBA_LANES void in_parts(std::int64_t count, const Part& part, const Done& done) {
  for (std::int64_t begin = 0; begin < count; begin += kParts * kPart) {
    const std::int64_t end = count - begin < kParts * kPart ? count : begin + kParts * kPart;
    for (std::int64_t i = begin; i < end; i += kPart) part(i, end - i < kPart ? end - i : kPart);
    done(end - begin);
  }
}

void statistics(const float* values, std::int64_t count, ValueSums& sums) {
  LaneSums all;
  in_parts(
      count,
      [&](std::int64_t first, std::int64_t size) {
        const float* const from = values + first;
        LaneSums part[2];  // hides the latency of the additions
        std::int64_t i = 0;
        for (; i + 2 * kWidth <= size; i += 2 * kWidth) {
          part[0].add(load(from + i));
          part[1].add(load(from + i + kWidth));
        }
        for (; i < size; i += kWidth) {
          const int lanes = size - i < kWidth ? static_cast<int>(size - i) : kWidth;
          part[0].add(load(from + i, lanes), lanes);
        }
        all.add(part[0]);
        all.add(part[1]);
      },
      [&](std::int64_t size) {
        all.add_to(sums, size);
        all = LaneSums{};
      });
}

template <bool kSums>
void gamma_as(const GammaInput& input, const PointTransform& output, float* values,
              std::int64_t count, ValueSums& before, ValueSums& after) {
  LaneSums all[2];
  in_parts(
      count,
      [&](std::int64_t first, std::int64_t size) {
        FloatLanes sum[2] = {}, squares[2] = {};
        for (std::int64_t i = 0; i < size; i += kWidth) {
          float* const at = values + first + i;
          const int lanes = size - i < kWidth ? static_cast<int>(size - i) : kWidth;
          FloatLanes base = gamma_base(input, load(at, lanes));
          FloatLanes power = power_of(base, input.power);
          if constexpr (!kSums) {
            store(at, apply(output, power), lanes);
            continue;
          }
          store(at, power, lanes);
          if (lanes < kWidth) {
            for (int k = lanes; k < kWidth; ++k) base[k] = power[k] = 0;
          }
          sum[0] += base;
          squares[0] += base * base;
          sum[1] += power;
          squares[1] += power * power;
        }
        for (int k = 0; k < 2; ++k) {
          all[k].sum += sum[k];
          all[k].squares += squares[k];
        }
      },
      [&](std::int64_t size) {
        all[0].add_to(before, size);
        all[1].add_to(after, size);
        all[0] = all[1] = LaneSums{};
      });
}

void gamma_sums(const GammaInput& input, float* values, std::int64_t count, ValueSums& before,
                ValueSums& after) {
  gamma_as<true>(input, {}, values, count, before, after);
}
void gamma(const GammaInput& input, const PointTransform& output, float* values,
           std::int64_t count) {
  ValueSums none;
  gamma_as<false>(input, output, values, count, none, none);
}

}  // namespace

namespace SEGMAMBA_SET {

const AugmentLanes& augment_lanes() {
  static constexpr AugmentLanes lanes{
      SEGMAMBA_SET_NAME, copy_row, positions, sample_row,    label_row,  add_noise,  combine,
      upsample,          point,    point_to,  finish_stores, statistics, gamma_sums, gamma};
  return lanes;
}

}  // namespace SEGMAMBA_SET
}  // namespace segmamba::kernels
