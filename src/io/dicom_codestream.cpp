#include "dicom_codestream.h"

#include <cstdint>
#include <set>

#include "segmamba/core/text.h"

namespace segmamba::io {
namespace {

constexpr auto kTruncated = "is truncated";

// Big-endian numbers of a stream; 0 beyond its end.
class Reader {
 public:
  explicit Reader(std::string_view bytes) : bytes_(bytes) {}

  std::uint32_t byte(std::size_t at) const {
    return at < bytes_.size() ? static_cast<unsigned char>(bytes_[at]) : 0;
  }
  std::uint32_t word(std::size_t at) const { return byte(at) << 8 | byte(at + 1); }
  std::uint32_t number(std::size_t at) const { return word(at) << 16 | word(at + 2); }
  std::size_t size() const { return bytes_.size(); }

 private:
  std::string_view bytes_;
};

std::string check_shape(const FrameShape& shape, std::int64_t columns, std::int64_t rows,
                        std::uint32_t components, int precision) {
  if (columns != shape.columns || rows != shape.rows || components != 1) {
    return concat("is of ", columns, "x", rows, " values of ", components,
                  " components, the header says ", shape.columns, "x", shape.rows, " of 1");
  }
  if (precision > shape.bits_allocated) {
    return concat("has values of ", precision, " bits, the header allocates ",
                  shape.bits_allocated);
  }
  return "";
}

constexpr std::uint32_t kStart = 0xd8, kEnd = 0xd9, kScan = 0xda;

// Frames of all processes; 0xc4, 0xc8 and 0xcc mean other things.
bool is_frame(std::uint32_t marker) {
  return (marker >= 0xc0 && marker <= 0xcf && marker % 4 != 0) || marker == 0xc0 ||
         marker == kJpegLs;
}
bool is_restart(std::uint32_t marker) { return marker >= 0xd0 && marker <= 0xd7; }
bool is_comment(std::uint32_t marker) {
  return (marker >= 0xe0 && marker <= 0xef) || marker == 0xfe;
}

bool is_supported(int process) {
  return process == 0xc0 || process == 0xc1 || process == kLosslessJpeg || process == kJpegLs;
}
bool fits_process(int process, int precision) {
  if (process == 0xc0) return precision == 8;
  if (process == 0xc1) return precision == 8 || precision == 12;
  return precision >= 2 && precision <= 16;
}

// Behind the coded values from `at` on: where the next marker stands that is none of theirs.
std::size_t end_of_values(const Reader& reader, std::size_t at, bool is_jpeg_ls) {
  for (; at + 1 < reader.size(); ++at) {
    if (reader.byte(at) != 0xff) continue;
    const std::uint32_t next = reader.byte(at + 1);
    const bool is_value = is_jpeg_ls ? next < 0x80 : next == 0;
    if (!is_value && !is_restart(next)) return at;
  }
  return reader.size();
}

constexpr std::uint32_t kTiles = 0xff51, kStyle = 0xff52, kTilePart = 0xff90,
                        kCodestreamEnd = 0xffd9;

// The tile parts from `at` on, each of which says how long it is; the last one may say 0.
std::string check_tile_parts(std::string_view stream, std::size_t at, std::size_t tiles,
                             std::size_t& end) {
  const Reader reader(stream);
  std::set<std::uint32_t> seen;
  while (reader.word(at) == kTilePart) {
    std::size_t length = reader.number(at + 6);
    if (length == 0) length = stream.rfind("\xff\xd9") - at;
    seen.insert(reader.word(at + 4));
    constexpr std::size_t kShortest = 14;  // with the mark of its data
    if (reader.word(at + 2) != 10 || reader.word(at + 4) >= tiles) return "has a damaged tile";
    if (length < kShortest || length > reader.size() - at) return kTruncated;
    at += length;
  }
  if (reader.word(at) != kCodestreamEnd) return kTruncated;
  if (seen.size() != tiles) return "lacks tiles";
  end = at + 2;
  return "";
}

}  // namespace

std::string check_jpeg(std::string_view stream, const FrameShape& shape, Codestream& result) {
  const Reader reader(stream);
  if (reader.word(0) != (0xff00 | kStart)) return "does not start as a JPEG stream";
  result.bytes.reserve(stream.size());
  result.bytes = stream.substr(0, 2);
  int scans = 0;
  std::size_t at = 2;
  for (;;) {
    if (at >= reader.size()) return kTruncated;
    if (reader.byte(at) != 0xff) return "has no marker where one is due";
    while (reader.byte(at + 1) == 0xff) ++at;  // fill
    const std::uint32_t marker = reader.byte(at + 1);
    if (marker == kEnd) break;
    const std::size_t length = reader.word(at + 2);
    if (marker < 0xc0 || marker == kStart || is_restart(marker) || length < 2) {
      return "has a damaged marker";
    }
    std::size_t end = at + 2 + length;
    if (end > reader.size()) return kTruncated;
    if (is_frame(marker)) {
      if (result.process != 0 || length < 11) return "has more than one frame";
      result.process = static_cast<int>(marker);
      result.precision = static_cast<int>(reader.byte(at + 4));
      auto fault = check_shape(shape, reader.word(at + 7), reader.word(at + 5), reader.byte(at + 9),
                               result.precision);
      if (!fault.empty()) return fault;
      if (!is_supported(result.process)) return "is of a JPEG process that is not supported";
      if (length != 11 || !fits_process(result.process, result.precision)) {
        return "has a damaged frame header";
      }
    } else if (marker == kScan) {
      if (result.process == 0) return "has values before it says what they are";
      end = end_of_values(reader, end, result.process == kJpegLs);
      ++scans;
    }
    if (!is_comment(marker)) result.bytes += stream.substr(at, end - at);
    at = end;
  }
  if (scans != 1) return concat("has ", scans, " scans");
  result.bytes += "\xff\xd9";
  return "";
}

std::string check_jpeg2000(std::string_view stream, const FrameShape& shape, Codestream& result) {
  const Reader reader(stream);
  if (reader.word(0) != 0xff4f || reader.word(2) != kTiles) {
    return "does not start as a JPEG 2000 codestream";
  }
  constexpr std::size_t kSizes = 4;  // where the segment of sizes starts
  const std::int64_t left = reader.number(kSizes + 12), top = reader.number(kSizes + 16);
  const std::int64_t tile_width = reader.number(kSizes + 20),
                     tile_height = reader.number(kSizes + 24);
  const std::uint32_t form = reader.byte(kSizes + 38);
  result.is_signed = (form & 0x80) != 0;
  result.precision = static_cast<int>(form & 0x7f) + 1;
  auto fault = check_shape(shape, reader.number(kSizes + 4) - left, reader.number(kSizes + 8) - top,
                           reader.word(kSizes + 36), result.precision);
  if (!fault.empty()) return fault;
  if (reader.word(kSizes) != 41 || reader.word(kSizes + 39) != 0x0101 || left != 0 || top != 0 ||
      reader.number(kSizes + 28) != 0 || reader.number(kSizes + 32) != 0 || tile_width == 0 ||
      tile_height == 0) {
    return "has a damaged or unusual grid";
  }
  const std::int64_t tiles = ((shape.columns + tile_width - 1) / tile_width) *
                             ((shape.rows + tile_height - 1) / tile_height);
  constexpr std::int64_t kMostTiles = 4096;
  if (tiles > kMostTiles) return concat("has ", tiles, " tiles");
  std::size_t at = kSizes + 41;
  bool has_style = false;
  while (reader.word(at) != kTilePart) {
    const std::size_t length = reader.word(at + 2);
    if (reader.byte(at) != 0xff || length < 2 || at + 2 + length > reader.size()) return kTruncated;
    has_style |= reader.word(at) == kStyle;
    at += 2 + length;
  }
  if (!has_style) return "does not say how it is coded";
  std::size_t end = 0;
  fault = check_tile_parts(stream, at, static_cast<std::size_t>(tiles), end);
  if (fault.empty()) result.bytes = stream.substr(0, end);
  return fault;
}

}  // namespace segmamba::io
