// The sequential processes with the cosine transform, annexes A.3 and F.2 of ITU-T T.81.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <numbers>

#include "dicom_codecs.h"
#include "dicom_jpeg.h"

namespace segmamba::io {
namespace {

constexpr std::size_t kSide = 8;
using Block = std::array<float, kSide * kSide>;  // [y, x], or frequencies [v, u]

constexpr std::array<std::uint8_t, 64> kZigzag = {
    0,  1,  8,  16, 9,  2,  3,  10, 17, 24, 32, 25, 18, 11, 4,  5,  12, 19, 26, 33, 40, 48,
    41, 34, 27, 20, 13, 6,  7,  14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23,
    30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63};

// waves[u][x] = C(u) / 2 cos((2 x + 1) u pi / 16)
using Waves = std::array<std::array<float, kSide>, kSide>;
const Waves& waves() {
  static const Waves table = [] {
    Waves waves{};
    for (std::size_t u = 0; u < kSide; ++u) {
      const double factor = u == 0 ? 0.5 / std::numbers::sqrt2 : 0.5;
      for (std::size_t x = 0; x < kSide; ++x) {
        const auto steps = static_cast<double>((2 * x + 1) * u);
        waves[u][x] = static_cast<float>(factor * std::cos(steps * std::numbers::pi / 16));
      }
    }
    return waves;
  }();
  return table;
}

// Of each row; the result is turned, so that twice is the transform of both axes.
Block transform_rows(const Block& block) {
  Block turned{};
  for (std::size_t v = 0; v < kSide; ++v) {
    for (std::size_t u = 0; u < kSide; ++u) {
      const float amplitude = block[v * kSide + u];
      if (amplitude == 0) continue;
      for (std::size_t x = 0; x < kSide; ++x) turned[x * kSide + v] += amplitude * waves()[u][x];
    }
  }
  return turned;
}

// The frequencies of a block but the first. False where a code is none or leads out of the block.
bool take_rest(JpegBits& bits, const JpegScan& scan, Block& block) {
  for (std::size_t i = 1; i < block.size(); ++i) {
    const auto symbol = take_symbol(bits, *scan.rest);
    if (!symbol) return false;
    const auto skipped = static_cast<std::size_t>(*symbol >> 4);
    const int count = *symbol & 15;
    if (count == 0 && skipped != 15) return true;  // nothing more
    i += skipped;
    if (i >= block.size()) return false;
    if (count == 0) continue;
    block[kZigzag[i]] =
        static_cast<float>(bits.take_signed(count)) * static_cast<float>((*scan.steps)[i]);
  }
  return true;
}

void store(const Block& block, int precision, const FrameShape& shape, std::size_t left,
           std::size_t top, std::span<char> output) {
  const auto columns = static_cast<std::size_t>(shape.columns);
  const auto rows = static_cast<std::size_t>(shape.rows);
  const auto bytes = static_cast<std::size_t>(shape.bits_allocated / 8);
  const float middle = static_cast<float>(1 << (precision - 1)), largest = 2 * middle - 1;
  for (std::size_t y = 0; y < kSide && top + y < rows; ++y) {
    for (std::size_t x = 0; x < kSide && left + x < columns; ++x) {
      const float value = std::clamp(block[y * kSide + x] + middle, 0.F, largest);
      const auto whole = static_cast<unsigned>(std::lround(value));
      char* target = &output[bytes * ((top + y) * columns + left + x)];
      for (std::size_t i = 0; i < bytes; ++i) target[i] = static_cast<char>(whole >> 8 * i);
    }
  }
}

}  // namespace

std::string decode_dct_jpeg(std::string_view stream, const FrameShape& shape,
                            std::span<char> output) {
  JpegScan scan;
  if (!read_jpeg_header(stream, scan) || scan.rest->empty() || scan.steps == nullptr ||
      scan.begin != 0 || scan.end != 63 || scan.shift != 0) {
    return "has a damaged header";
  }
  const std::size_t across = (static_cast<std::size_t>(shape.columns) + kSide - 1) / kSide;
  const std::size_t down = (static_cast<std::size_t>(shape.rows) + kSide - 1) / kSide;
  JpegBits bits(scan.values);
  std::int64_t first = 0;
  for (std::size_t i = 0; i < across * down; ++i) {
    if (i > 0 && scan.restart_interval > 0 && i % scan.restart_interval == 0) {
      if (!bits.restart()) return "has no restart marker where one is due";
      first = 0;
    }
    const auto count = take_symbol(bits, *scan.first);
    constexpr int kMostBits = 15;
    if (!count || *count > kMostBits) return "has values that are no code";
    first += bits.take_signed(*count);
    Block block{};
    block[0] = static_cast<float>(first) * static_cast<float>((*scan.steps)[0]);
    if (!take_rest(bits, scan, block)) return "has values that are no code";
    if (bits.is_overdrawn()) return "lacks values";
    store(transform_rows(transform_rows(block)), scan.precision, shape, i % across * kSide,
          i / across * kSide, output);
  }
  return "";
}

}  // namespace segmamba::io
