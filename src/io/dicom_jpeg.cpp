#include "dicom_jpeg.h"

#include <utility>

namespace segmamba::io {
namespace {

std::uint32_t byte_of(std::string_view bytes, std::size_t at) {
  return at < bytes.size() ? static_cast<unsigned char>(bytes[at]) : 0;
}
std::uint32_t word_of(std::string_view bytes, std::size_t at) {
  return byte_of(bytes, at) << 8 | byte_of(bytes, at + 1);
}

// `counts`: of codes of 1 to 16 bits.
std::optional<JpegTable> make_table(std::string_view counts, std::string_view symbols) {
  JpegTable table(1 << 16);
  std::uint32_t code = 0;  // left-aligned
  std::size_t used = 0;
  for (std::uint8_t length = 1; length <= 16; ++length) {
    const std::uint32_t span = 1u << (16 - length);
    for (std::uint32_t i = byte_of(counts, length - 1); i > 0; --i) {
      const auto symbol = static_cast<std::uint8_t>(byte_of(symbols, used++));
      if (code + span > table.size()) return std::nullopt;
      for (const std::uint32_t end = code + span; code < end; ++code) {
        table[code] = {length, symbol};
      }
    }
  }
  return table;
}

bool read_tables(std::string_view segment, JpegScan& scan) {
  for (std::size_t at = 0; at < segment.size();) {
    constexpr std::size_t kCounts = 16;
    const std::uint32_t kind = byte_of(segment, at) >> 4, place = byte_of(segment, at) & 15;
    if (kind > 1 || place > 3 || segment.size() - at <= kCounts) return false;
    const std::string_view counts = segment.substr(at + 1, kCounts);
    std::size_t codes = 0;
    for (std::size_t i = 0; i < kCounts; ++i) codes += byte_of(counts, i);
    at += 1 + kCounts;
    if (codes > segment.size() - at) return false;
    auto table = make_table(counts, segment.substr(at, codes));
    if (!table) return false;
    scan.tables[4 * kind + place] = std::move(*table);
    at += codes;
  }
  return true;
}

bool read_quantization(std::string_view segment, JpegScan& scan) {
  for (std::size_t at = 0; at < segment.size();) {
    const std::size_t bytes = byte_of(segment, at) >> 4 == 0 ? 1 : 2;
    const std::uint32_t place = byte_of(segment, at) & 15;
    ++at;
    if (place > 3 || segment.size() - at < 64 * bytes) return false;
    auto& steps = scan.quantization[place].emplace();
    for (std::size_t i = 0; i < steps.size(); ++i, at += bytes) {
      steps[i] =
          static_cast<std::uint16_t>(bytes == 1 ? byte_of(segment, at) : word_of(segment, at));
    }
  }
  return true;
}

bool read_scan_header(std::string_view segment, JpegScan& scan) {
  constexpr std::size_t kBytes = 6;
  if (segment.size() != kBytes || byte_of(segment, 0) != 1) return false;
  const std::uint32_t first = byte_of(segment, 2) >> 4, rest = byte_of(segment, 2) & 15;
  if (first > 3 || rest > 3) return false;
  scan.first = &scan.tables[first];
  scan.rest = &scan.tables[4 + rest];
  scan.begin = static_cast<int>(byte_of(segment, 3));
  scan.end = static_cast<int>(byte_of(segment, 4));
  scan.shift = static_cast<int>(byte_of(segment, 5) & 15);
  return !scan.first->empty();
}

}  // namespace

bool JpegBits::restart() {
  count_ = missing_ = 0;
  if (byte_of(bytes_, at_) != 0xff || (byte_of(bytes_, at_ + 1) & 0xf8) != 0xd0) return false;
  at_ += 2;
  return true;
}

bool read_jpeg_header(std::string_view stream, JpegScan& scan) {
  std::uint32_t quantization = 0;
  for (std::size_t at = 2; at + 4 <= stream.size();) {
    while (byte_of(stream, at + 1) == 0xff) ++at;
    const std::uint32_t marker = byte_of(stream, at + 1);
    const std::size_t length = word_of(stream, at + 2);
    const std::string_view segment = stream.substr(at + 4, length - 2);
    at += 2 + length;
    switch (marker) {
      case 0xc0:
      case 0xc1:
      case 0xc3:
        scan.precision = static_cast<int>(byte_of(segment, 0));
        quantization = byte_of(segment, 8);
        break;
      case 0xc4:
        if (!read_tables(segment, scan)) return false;
        break;
      case 0xda:
        scan.values = stream.substr(at);
        if (quantization < scan.quantization.size() && scan.quantization[quantization]) {
          scan.steps = &*scan.quantization[quantization];
        }
        return read_scan_header(segment, scan);
      case 0xdb:
        if (!read_quantization(segment, scan)) return false;
        break;
      case 0xdd:
        scan.restart_interval = word_of(segment, 0);
        break;
      default:
        break;
    }
  }
  return false;
}

}  // namespace segmamba::io
