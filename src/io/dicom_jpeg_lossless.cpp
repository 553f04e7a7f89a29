#include <array>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "dicom_codecs.h"

namespace segmamba::io {
namespace {

constexpr int kMostCategories = 17;  // of differences: by their number of bits, 0 to 16

std::uint32_t byte_of(std::string_view bytes, std::size_t at) {
  return at < bytes.size() ? static_cast<unsigned char>(bytes[at]) : 0;
}
std::uint32_t word_of(std::string_view bytes, std::size_t at) {
  return byte_of(bytes, at) << 8 | byte_of(bytes, at + 1);
}

// The coded values of a scan as bits; zeros behind their end.
class Bits {
 public:
  explicit Bits(std::string_view bytes) : bytes_(bytes) {}

  std::uint32_t peek(int count) {
    while (count_ < count) {
      buffer_ = buffer_ << 8 | next();
      count_ += 8;
    }
    return static_cast<std::uint32_t>(buffer_ >> (count_ - count)) & ((1u << count) - 1);
  }
  std::uint32_t take(int count) {
    const std::uint32_t bits = peek(count);
    count_ -= count;
    return bits;
  }
  // Goes on behind the restart marker that is due.
  bool restart() {
    count_ = missing_ = 0;
    if (byte_of(bytes_, at_) != 0xff || (byte_of(bytes_, at_ + 1) & 0xf8) != 0xd0) return false;
    at_ += 2;
    return true;
  }
  bool is_overdrawn() const { return 8 * missing_ > count_; }

 private:
  std::uint32_t next() {
    const std::uint32_t byte = byte_of(bytes_, at_);
    const bool is_stuffed = byte == 0xff;
    if (at_ >= bytes_.size() || (is_stuffed && byte_of(bytes_, at_ + 1) != 0)) {
      ++missing_;
      return 0;
    }
    at_ += is_stuffed ? 2 : 1;
    return byte;
  }

  std::string_view bytes_;
  std::size_t at_ = 0;
  std::uint64_t buffer_ = 0;
  int count_ = 0, missing_ = 0;
};

// By the next 16 bits: the length of the code they start with and its category; length 0 for none.
struct Code {
  std::uint8_t length = 0, category = 0;
};
using Table = std::vector<Code>;

// `counts`: of codes of 1 to 16 bits.
std::optional<Table> make_table(std::string_view counts, std::string_view categories) {
  Table table(1 << 16);
  std::uint32_t code = 0;  // left-aligned
  std::size_t used = 0;
  for (std::uint8_t length = 1; length <= 16; ++length) {
    const std::uint32_t span = 1u << (16 - length);
    for (std::uint32_t i = byte_of(counts, length - 1); i > 0; --i) {
      const auto category = static_cast<std::uint8_t>(byte_of(categories, used++));
      if (code + span > table.size() || category >= kMostCategories) return std::nullopt;
      for (const std::uint32_t end = code + span; code < end; ++code) {
        table[code] = {length, category};
      }
    }
  }
  return table;
}

struct Scan {
  std::array<Table, 4> tables;
  std::size_t table = 0;
  std::size_t rows_between_restarts = 0;  // 0: no restarts
  int precision = 0, predictor = 0, shift = 0;
  std::string_view values;
};

bool read_tables(std::string_view segment, Scan& scan) {
  for (std::size_t at = 0; at < segment.size();) {
    constexpr std::size_t kCounts = 16;
    const std::uint32_t place = byte_of(segment, at);
    if (place >= scan.tables.size() || segment.size() - at <= kCounts) return false;
    const std::string_view counts = segment.substr(at + 1, kCounts);
    std::size_t codes = 0;
    for (std::size_t i = 0; i < kCounts; ++i) codes += byte_of(counts, i);
    at += 1 + kCounts;
    if (codes > segment.size() - at) return false;
    auto table = make_table(counts, segment.substr(at, codes));
    if (!table) return false;
    scan.tables[place] = std::move(*table);
    at += codes;
  }
  return true;
}

bool read_scan_header(std::string_view segment, Scan& scan) {
  constexpr std::size_t kBytes = 6;
  if (segment.size() != kBytes || byte_of(segment, 0) != 1) return false;
  scan.table = byte_of(segment, 2) >> 4;
  scan.predictor = static_cast<int>(byte_of(segment, 3));
  scan.shift = static_cast<int>(byte_of(segment, 5) & 15);
  return scan.table < scan.tables.size() && !scan.tables[scan.table].empty() &&
         scan.predictor >= 1 && scan.predictor <= 7 && scan.shift < scan.precision;
}

// The segments up to the values. False where one is damaged.
bool read_header(std::string_view stream, const FrameShape& shape, Scan& scan) {
  for (std::size_t at = 2; at + 4 <= stream.size();) {
    while (byte_of(stream, at + 1) == 0xff) ++at;
    const std::uint32_t marker = byte_of(stream, at + 1);
    const std::size_t length = word_of(stream, at + 2);
    const std::string_view segment = stream.substr(at + 4, length - 2);
    at += 2 + length;
    if (marker == 0xc4 && !read_tables(segment, scan)) return false;
    if (marker == 0xc3) scan.precision = static_cast<int>(byte_of(segment, 0));
    if (marker == 0xdd) {
      const auto columns = static_cast<std::size_t>(shape.columns);
      if (word_of(segment, 0) % columns != 0) return false;
      scan.rows_between_restarts = word_of(segment, 0) / columns;
    }
    if (marker != 0xda) continue;
    scan.values = stream.substr(at);
    return read_scan_header(segment, scan);
  }
  return false;
}

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
std::optional<int> take_difference(Bits& bits, const Table& table) {
  const Code code = table[bits.peek(16)];
  if (code.length == 0) return std::nullopt;
  bits.take(code.length);
  if (code.category == 0) return 0;
  if (code.category == 16) return 1 << 15;
  const int value = static_cast<int>(bits.take(code.category));
  return value >> (code.category - 1) != 0 ? value : value - (1 << code.category) + 1;
}

void store(std::int32_t value, int bytes, char* output) {
  for (int i = 0; i < bytes; ++i) output[i] = static_cast<char>(value >> 8 * i);
}

}  // namespace

std::string decode_lossless_jpeg(std::string_view stream, const FrameShape& shape,
                                 std::span<char> output) {
  Scan scan;
  if (!read_header(stream, shape, scan)) return "has a damaged header";
  const Table& table = scan.tables[scan.table];
  const auto columns = static_cast<std::size_t>(shape.columns);
  const auto rows = static_cast<std::size_t>(shape.rows);
  const int bytes = shape.bits_allocated / 8;
  std::vector<std::int32_t> above(columns), row(columns);
  Bits bits(scan.values);
  char* target = output.data();
  for (std::size_t y = 0; y < rows; ++y) {
    const bool restarts =
        y > 0 && scan.rows_between_restarts > 0 && y % scan.rows_between_restarts == 0;
    if (restarts && !bits.restart()) return "has no restart marker where one is due";
    const bool is_first = y == 0 || restarts;
    for (std::size_t x = 0; x < columns; ++x) {
      const auto difference = take_difference(bits, table);
      if (!difference) return "has values that are no code";
      const int guess = x == 0     ? (is_first ? 1 << (scan.precision - scan.shift - 1) : above[0])
                        : is_first ? row[x - 1]
                                   : predict(scan.predictor, row[x - 1], above[x], above[x - 1]);
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
