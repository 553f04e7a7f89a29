#pragma once
// What the JPEG processes with Huffman coding have in common (ITU-T T.81): one component, one scan.

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace segmamba::io {

// The coded values of a scan as bits; zeros behind their end.
class JpegBits {
 public:
  explicit JpegBits(std::string_view bytes) : bytes_(bytes) {}

  // The next 1 to 16 bits; take() goes on behind them.
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
  // A number of 0 to 16 bits, of which a first bit of 0 means a negative one (F.2.2.1).
  int take_signed(int count) {
    if (count == 0) return 0;
    const int value = static_cast<int>(take(count));
    return value >> (count - 1) != 0 ? value : value - (1 << count) + 1;
  }
  // Goes on behind the restart marker that is due; false where there is none.
  bool restart();
  // Whether more bits were taken than there are.
  bool is_overdrawn() const { return 8 * missing_ > count_; }

 private:
  std::uint32_t next() {
    const auto byte = at_ < bytes_.size() ? static_cast<unsigned char>(bytes_[at_]) : 0xff;
    if (byte != 0xff) {
      ++at_;
      return byte;
    }
    if (at_ + 1 < bytes_.size() && bytes_[at_ + 1] == 0) {  // stuffed
      at_ += 2;
      return byte;
    }
    ++missing_;
    return 0;
  }

  std::string_view bytes_;
  std::size_t at_ = 0;
  std::uint64_t buffer_ = 0;
  int count_ = 0, missing_ = 0;
};

// By the next 16 bits: the length of the code that they start with and what it stands for; length 0
// for none.
struct JpegCode {
  std::uint8_t length = 0, symbol = 0;
};
using JpegTable = std::vector<JpegCode>;

// Nothing where no code fits.
inline std::optional<int> take_symbol(JpegBits& bits, const JpegTable& table) {
  const JpegCode code = table[bits.peek(16)];
  if (code.length == 0) return std::nullopt;
  bits.take(code.length);
  return code.symbol;
}

struct JpegScan {
  int precision = 0;
  std::size_t restart_interval = 0;  // in values or blocks; 0: no restarts
  // Where the values of the scan are coded: a table of Huffman codes for differences and, with the
  // cosine transform, one for the rest and the steps of quantization, in zigzag order.
  const JpegTable *first = nullptr, *rest = nullptr;
  const std::array<std::uint16_t, 64>* steps = nullptr;
  int begin = 0, end = 0, shift = 0;  // Ss (the predictor), Se, Al
  std::string_view values;

  std::array<JpegTable, 8> tables;  // of differences, of the rest
  std::array<std::optional<std::array<std::uint16_t, 64>>, 4> quantization;
};

// Reads the segments up to the values of a stream that check_jpeg passed. False where one is
// damaged or a table is missing.
bool read_jpeg_header(std::string_view stream, JpegScan& scan);

}  // namespace segmamba::io
