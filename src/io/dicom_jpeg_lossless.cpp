// Annex H of ITU-T T.81.

#include <cstdint>
#include <utility>
#include <vector>

#include "dicom_codecs.h"
#include "dicom_jpeg.h"

namespace segmamba::io {
namespace {

int predict(int predictor, int left, int above, int above_left) {
  switch (predictor) {
    case 1:
      return left;
    case 2:
      return above;
    case 3:
      return above_left;
    case 4:
      return left + above - above_left;
    case 5:
      return left + ((above - above_left) >> 1);
    case 6:
      return above + ((left - above_left) >> 1);
    default:
      return (left + above) >> 1;
  }
}

// How much the next value differs from its prediction; nothing where no code fits.
std::optional<int> take_difference(JpegBits& bits, const JpegTable& table) {
  constexpr int kLargest = 16;  // stands for 2^15 without bits of its own
  const auto count = take_symbol(bits, table);
  if (!count || *count > kLargest) return std::nullopt;
  return *count == kLargest ? 1 << 15 : bits.take_signed(*count);
}

void store(std::int32_t value, int bytes, char* output) {
  for (int i = 0; i < bytes; ++i) output[i] = static_cast<char>(value >> 8 * i);
}

}  // namespace

std::string decode_lossless_jpeg(std::string_view stream, const FrameShape& shape,
                                 std::span<char> output) {
  JpegScan scan;
  const auto columns = static_cast<std::size_t>(shape.columns);
  const auto rows = static_cast<std::size_t>(shape.rows);
  if (!read_jpeg_header(stream, scan) || scan.begin < 1 || scan.begin > 7 ||
      scan.shift >= scan.precision || scan.restart_interval % columns != 0) {
    return "has a damaged header";
  }
  const std::size_t rows_between_restarts = scan.restart_interval / columns;
  const int bytes = shape.bits_allocated / 8;
  std::vector<std::int32_t> above(columns), row(columns);
  JpegBits bits(scan.values);
  char* target = output.data();
  for (std::size_t y = 0; y < rows; ++y) {
    const bool restarts = y > 0 && rows_between_restarts > 0 && y % rows_between_restarts == 0;
    if (restarts && !bits.restart()) return "has no restart marker where one is due";
    const bool is_first = y == 0 || restarts;
    for (std::size_t x = 0; x < columns; ++x) {
      const auto difference = take_difference(bits, *scan.first);
      if (!difference) return "has values that are no code";
      const int guess = x == 0     ? (is_first ? 1 << (scan.precision - scan.shift - 1) : above[0])
                        : is_first ? row[x - 1]
                                   : predict(scan.begin, row[x - 1], above[x], above[x - 1]);
      row[x] = (guess + *difference) & 0xffff;
      store(row[x] << scan.shift, bytes, target);
      target += bytes;
    }
    std::swap(above, row);
    if (bits.is_overdrawn()) return "lacks values";
  }
  return "";
}

}  // namespace segmamba::io
