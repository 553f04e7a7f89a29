#pragma once
// Compressed frames of DICOM pixel data. Each decoder is safe on any bytes: what is not ours is
// given only streams whose structure was checked.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "dicom_structure.h"

namespace segmamba::io {

// What the header says of a frame of grey values.
struct FrameShape {
  std::int64_t columns = 0, rows = 0;
  int bits_allocated = 16;  // 8, 16 or 32

  std::size_t pixels() const { return static_cast<std::size_t>(columns * rows); }
  std::size_t bytes() const { return pixels() * static_cast<std::size_t>(bits_allocated / 8); }
};

// All decoders write [rows, columns] little-endian values of bits_allocated into `output`, of
// shape.bytes() bytes, and return what is wrong with the frame, "" where nothing is.
std::string decode_frame(DicomCompression compression, std::string_view frame,
                         const FrameShape& shape, std::span<char> output);

// PS3.5, annex G.
std::string decode_rle(std::string_view frame, const FrameShape& shape, std::span<char> output);

// JPEG with Huffman coding, ITU-T T.81: the lossless process, and the sequential ones with the
// cosine transform. Of streams that check_jpeg passed.
std::string decode_lossless_jpeg(std::string_view stream, const FrameShape& shape,
                                 std::span<char> output);
std::string decode_dct_jpeg(std::string_view stream, const FrameShape& shape,
                            std::span<char> output);

}  // namespace segmamba::io
