#include "../../src/io/dicom_codecs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstdlib>
#include <new>
#include <random>
#include <vector>

#include "../../src/io/dicom_codestream.h"
#include "../../src/io/gdcm_door.h"

namespace segmamba::io {
namespace {

using ::testing::HasSubstr;

std::string bytes_of(std::initializer_list<int> values) {
  std::string bytes;
  for (const int value : values) bytes += static_cast<char>(value);
  return bytes;
}
void append_word(std::string& bytes, std::uint32_t word) {
  bytes += static_cast<char>(word >> 8);
  bytes += static_cast<char>(word);
}

struct Decoded {
  std::string fault;
  std::vector<std::uint16_t> values;
};

template <class Decoder>
Decoded decode(Decoder decoder, std::string_view frame, const FrameShape& shape) {
  std::string output(shape.bytes(), '\x55');
  Decoded decoded;
  decoded.fault = decoder(frame, shape, output);
  const std::size_t step = static_cast<std::size_t>(shape.bits_allocated / 8);
  for (std::size_t i = 0; i < output.size(); i += step) {
    const auto low = static_cast<unsigned char>(output[i]);
    const auto high = step == 2 ? static_cast<unsigned char>(output[i + 1]) : 0;
    decoded.values.push_back(static_cast<std::uint16_t>(low | high << 8));
  }
  return decoded;
}

// RLE: the planes of bytes behind their header.
std::string rle(const std::vector<std::string>& planes) {
  std::string frame(64, '\0');
  const auto put = [&](std::size_t place, std::size_t value) {
    frame[4 * place] = static_cast<char>(value);
    frame[4 * place + 1] = static_cast<char>(value >> 8);
  };
  put(0, planes.size());
  for (std::size_t i = 0; i < planes.size(); ++i) {
    put(i + 1, frame.size());
    frame += planes[i];
  }
  return frame;
}

TEST(GdcmDoor, LetsNothingThroughButShortMemory) {
  EXPECT_TRUE(succeeds([] { return true; }));
  EXPECT_FALSE(succeeds([] { return false; }));
  EXPECT_FALSE(succeeds([]() -> bool { throw "a text"; }));
  EXPECT_FALSE(succeeds([]() -> bool { throw std::bad_array_new_length(); }));
  EXPECT_THROW(succeeds([]() -> bool { throw std::bad_alloc(); }), std::bad_alloc);
}

constexpr FrameShape kBytes = {3, 2, 8}, kWords = {3, 2, 16};

TEST(Rle, RunsAndLiterals) {
  // Two literals, nothing, four times 9.
  const auto frame = rle({bytes_of({1, 7, 8, -128, -3, 9, 0})});
  const auto decoded = decode(decode_rle, frame, kBytes);
  EXPECT_EQ(decoded.fault, "");
  EXPECT_EQ(decoded.values, (std::vector<std::uint16_t>{7, 8, 9, 9, 9, 9}));
}

TEST(Rle, HighBytesComeFirst) {
  const auto decoded =
      decode(decode_rle, rle({bytes_of({-5, 1}), bytes_of({5, 1, 2, 3, 4, 5, 6})}), kWords);
  EXPECT_EQ(decoded.fault, "");
  EXPECT_EQ(decoded.values, (std::vector<std::uint16_t>{257, 258, 259, 260, 261, 262}));
}

TEST(Rle, Faults) {
  const std::string six = bytes_of({-5, 1});
  const auto fault = [](const std::string& frame, const FrameShape& shape) {
    return decode(decode_rle, frame, shape).fault;
  };
  EXPECT_EQ(fault(rle({six}), kBytes), "");
  EXPECT_EQ(fault(rle({six}).substr(0, 63), kBytes), "is truncated");
  EXPECT_THAT(fault(rle({six}), kWords), HasSubstr("has 1 planes of bytes, the header says 2"));
  EXPECT_THAT(fault(rle({bytes_of({-4, 1})}), kBytes), HasSubstr("lacks values"));
  EXPECT_THAT(fault(rle({bytes_of({-6, 1})}), kBytes), HasSubstr("too many"));
  EXPECT_THAT(fault(rle({bytes_of({5, 1, 2})}), kBytes), HasSubstr("lacks values"));
  EXPECT_THAT(fault(rle({bytes_of({-5})}), kBytes), HasSubstr("lacks values"));
  for (const int place : {0, 63, 100}) {
    std::string frame = rle({six});
    frame[4] = static_cast<char>(place);
    EXPECT_THAT(fault(frame, kBytes), HasSubstr("header")) << place;
  }
}

// An encoder of the lossless process as plain as can be: a code of five bits for every category.
struct LosslessJpeg {
  int columns = 0, rows = 0, precision = 16, predictor = 1, shift = 0, rows_between_restarts = 0;
  std::vector<std::uint16_t> values;

  std::string header() const {
    std::string bytes = bytes_of({0xff, 0xd8, 0xff, 0xc3, 0, 11, precision});
    append_word(bytes, static_cast<std::uint32_t>(rows));
    append_word(bytes, static_cast<std::uint32_t>(columns));
    bytes += bytes_of({1, 1, 0x11, 0, 0xff, 0xc4, 0, 36, 0});
    for (int length = 1; length <= 16; ++length) bytes += static_cast<char>(length == 5 ? 17 : 0);
    for (int category = 0; category <= 16; ++category) bytes += static_cast<char>(category);
    if (rows_between_restarts > 0) {
      bytes += bytes_of({0xff, 0xdd, 0, 4});
      append_word(bytes, static_cast<std::uint32_t>(rows_between_restarts * columns));
    }
    return bytes + bytes_of({0xff, 0xda, 0, 8, 1, 1, 0, predictor, 0, shift});
  }
  std::string encode() const;
};

class JpegEncoder {
 public:
  explicit JpegEncoder(const LosslessJpeg& jpeg) : jpeg_(jpeg), bytes_(jpeg.header()) {}

  std::string encode() {
    for (int y = 0; y < jpeg_.rows; ++y) {
      if (restarts_at(y)) {
        flush();
        bytes_ += bytes_of({0xff, 0xd0 + (y / jpeg_.rows_between_restarts - 1) % 8});
      }
      for (int x = 0; x < jpeg_.columns; ++x) put_difference(at(x, y) - guess(x, y));
    }
    flush();
    return bytes_ + bytes_of({0xff, 0xd9});
  }

 private:
  bool restarts_at(int y) const {
    return y > 0 && jpeg_.rows_between_restarts > 0 && y % jpeg_.rows_between_restarts == 0;
  }
  int at(int x, int y) const {
    return jpeg_.values[static_cast<std::size_t>(y * jpeg_.columns + x)] >> jpeg_.shift;
  }
  int guess(int x, int y) const {
    if (y == 0 || restarts_at(y)) {
      return x == 0 ? 1 << (jpeg_.precision - jpeg_.shift - 1) : at(x - 1, y);
    }
    if (x == 0) return at(0, y - 1);
    const int a = at(x - 1, y), b = at(x, y - 1), c = at(x - 1, y - 1);
    const std::array guesses = {
        0, a, b, c, a + b - c, a + ((b - c) >> 1), b + ((a - c) >> 1), (a + b) >> 1};
    return guesses[static_cast<std::size_t>(jpeg_.predictor)];
  }
  // Modulo 2^16, from -32767 to 32768.
  void put_difference(int difference) {
    difference &= 0xffff;
    if (difference > 1 << 15) difference -= 1 << 16;
    int category = 0;
    while (category < 16 && std::abs(difference) >= 1 << category) ++category;
    put(static_cast<std::uint32_t>(category), 5);
    if (category < 16) {
      const int bits = difference < 0 ? difference + (1 << category) - 1 : difference;
      put(static_cast<std::uint32_t>(bits), category);
    }
  }
  void put(std::uint32_t value, int count) {
    for (int i = count - 1; i >= 0; --i) {
      byte_ = byte_ << 1 | (value >> i & 1);
      if (++used_ < 8) continue;
      bytes_ += static_cast<char>(byte_);
      if ((byte_ & 0xff) == 0xff) bytes_ += '\0';
      used_ = 0;
    }
  }
  void flush() {
    while (used_ != 0) put(1, 1);
  }

  const LosslessJpeg& jpeg_;
  std::string bytes_;
  std::uint32_t byte_ = 0;
  int used_ = 0;
};

std::string LosslessJpeg::encode() const { return JpegEncoder(*this).encode(); }

LosslessJpeg random_jpeg(int precision, int shift) {
  std::mt19937 random(7);
  LosslessJpeg jpeg{.columns = 7, .rows = 6, .precision = precision, .shift = shift, .values = {}};
  for (int i = 0; i < jpeg.columns * jpeg.rows; ++i) {
    const std::uint32_t value = random() % (1u << precision);
    jpeg.values.push_back(static_cast<std::uint16_t>(value >> shift << shift));
  }
  return jpeg;
}

constexpr auto decode_any_jpeg = [](std::string_view frame, const FrameShape& shape,
                                    std::span<char> output) {
  return decode_frame(DicomCompression::kJpeg, frame, shape, output);
};

TEST(LosslessJpeg, PredictorsPrecisionsAndRestarts) {
  for (const int precision : {8, 12, 16}) {
    for (int predictor = 1; predictor <= 7; ++predictor) {
      for (const int restart : {0, 1, 2}) {
        for (const int shift : {0, 2}) {
          SCOPED_TRACE(testing::Message() << precision << " bits, predictor " << predictor
                                          << ", restart " << restart << ", shift " << shift);
          LosslessJpeg jpeg = random_jpeg(precision, shift);
          jpeg.predictor = predictor;
          jpeg.rows_between_restarts = restart;
          const FrameShape shape = {jpeg.columns, jpeg.rows, precision == 8 ? 8 : 16};
          const auto decoded = decode(decode_any_jpeg, jpeg.encode(), shape);
          EXPECT_EQ(decoded.fault, "");
          EXPECT_EQ(decoded.values, jpeg.values);
        }
      }
    }
  }
}

TEST(LosslessJpeg, LargestDifference) {
  LosslessJpeg jpeg{.columns = 3, .rows = 1, .values = {0, 0x8000, 0}};
  const auto decoded = decode(decode_any_jpeg, jpeg.encode(), {3, 1, 16});
  EXPECT_EQ(decoded.fault, "");
  EXPECT_EQ(decoded.values, jpeg.values);
}

TEST(LosslessJpeg, Faults) {
  LosslessJpeg jpeg = random_jpeg(16, 0);
  const FrameShape shape = {jpeg.columns, jpeg.rows, 16};
  const auto fault = [&](const std::string& frame) {
    return decode(decode_any_jpeg, frame, shape).fault;
  };
  const std::string end = bytes_of({0xff, 0xd9});
  const std::string whole = jpeg.encode();
  EXPECT_EQ(fault(whole), "");
  EXPECT_EQ(fault(whole.substr(0, whole.size() - 2)), "is truncated");
  EXPECT_THAT(fault(whole.substr(0, whole.size() - 12) + end), HasSubstr("values"));
  EXPECT_THAT(fault(jpeg.header() + end), HasSubstr("lacks values"));
  // Twenty ones are no code.
  EXPECT_THAT(fault(jpeg.header() + std::string("\xff\0\xff\0\xff\0", 6) + end),
              HasSubstr("no code"));
  for (const int predictor : {0, 8}) {
    LosslessJpeg bad = jpeg;
    bad.predictor = predictor;
    EXPECT_THAT(fault(bad.header() + end), HasSubstr("damaged header")) << predictor;
  }
  LosslessJpeg without_restarts = jpeg;
  without_restarts.rows_between_restarts = 2;
  const auto values = whole.substr(jpeg.header().size());
  EXPECT_NE(fault(without_restarts.header() + values), "");
}

std::string fault_of_jpeg(const std::string& frame, const FrameShape& shape) {
  Codestream stream;
  return check_jpeg(frame, shape, stream);
}

TEST(CheckJpeg, StructureAndSize) {
  LosslessJpeg jpeg = random_jpeg(12, 0);
  const std::string whole = jpeg.encode();
  const FrameShape shape = {jpeg.columns, jpeg.rows, 16};
  Codestream stream;
  EXPECT_EQ(check_jpeg(whole + std::string(1, '\0'), shape, stream), "");
  EXPECT_EQ(stream.process, 0xc3);
  EXPECT_EQ(stream.precision, 12);
  EXPECT_EQ(stream.bytes, whole);
  EXPECT_THAT(fault_of_jpeg(whole, {jpeg.rows, jpeg.columns, 16}),
              HasSubstr("is of 7x6 values of 1 components, the header says 6x7"));
  EXPECT_THAT(fault_of_jpeg(whole, {jpeg.columns, jpeg.rows, 8}), HasSubstr("of 12 bits"));
  EXPECT_THAT(fault_of_jpeg(whole.substr(1), shape), HasSubstr("does not start"));
  EXPECT_THAT(fault_of_jpeg("", shape), HasSubstr("does not start"));
  EXPECT_THAT(fault_of_jpeg(whole.substr(0, 2) + "x" + whole.substr(2), shape),
              HasSubstr("no marker where one is due"));
  const std::string frame = whole.substr(2, 13);
  EXPECT_THAT(fault_of_jpeg(whole.substr(0, 2) + frame + whole.substr(2), shape),
              HasSubstr("more than one frame"));
  for (std::size_t size = 2; size < whole.size(); ++size) {
    EXPECT_NE(fault_of_jpeg(whole.substr(0, size), shape), "") << size;
  }
}

TEST(CheckJpeg, CommentsAreTakenOut) {
  LosslessJpeg jpeg = random_jpeg(12, 0);
  const std::string whole = jpeg.encode();
  std::string commented = whole;
  commented.insert(2, bytes_of({0xff, 0xfe, 0, 4, 'h', 'i', 0xff, 0xff, 0xe0, 0, 3, 0}));
  Codestream stream;
  EXPECT_EQ(check_jpeg(commented, {jpeg.columns, jpeg.rows, 16}, stream), "");
  EXPECT_EQ(stream.bytes, whole);
}

// A codestream of 2x1 tiles of 4x4 values, each in a part of `parts` bytes of nothing.
std::string jpeg_2000(const std::vector<std::uint32_t>& parts) {
  std::string bytes = bytes_of({0xff, 0x4f, 0xff, 0x51, 0, 41, 0, 0});
  for (const std::uint32_t number : {8u, 4u, 0u, 0u, 4u, 4u, 0u, 0u}) {
    append_word(bytes, number >> 16);
    append_word(bytes, number);
  }
  bytes += bytes_of({0, 1, 11, 1, 1, 0xff, 0x52, 0, 3, 0});
  for (std::uint32_t tile = 0; tile < parts.size(); ++tile) {
    bytes += bytes_of({0xff, 0x90, 0, 10});
    append_word(bytes, tile);
    append_word(bytes, 0);
    append_word(bytes, parts[tile] == 0 ? 0 : 14 + parts[tile]);
    bytes += bytes_of({0, 1, 0xff, 0x93}) + std::string(parts[tile], '\1');
  }
  return bytes + bytes_of({0xff, 0xd9});
}

TEST(CheckJpeg2000, StructureAndSize) {
  const FrameShape shape = {8, 4, 16};
  const auto fault = [&](const std::string& frame) {
    Codestream stream;
    return check_jpeg2000(frame, shape, stream);
  };
  const std::string whole = jpeg_2000({5, 3});
  Codestream stream;
  EXPECT_EQ(check_jpeg2000(whole + std::string(1, '\0'), shape, stream), "");
  EXPECT_EQ(stream.precision, 12);
  EXPECT_FALSE(stream.is_signed);
  EXPECT_EQ(stream.bytes, whole);
  EXPECT_EQ(fault(jpeg_2000({5, 0})), "");  // the last part may leave its length open
  EXPECT_EQ(fault(jpeg_2000({5})), "lacks tiles");
  EXPECT_EQ(fault(jpeg_2000({5, 3, 3})), "has a damaged tile");
  for (std::size_t size = 0; size < whole.size(); ++size) {
    EXPECT_NE(fault(whole.substr(0, size)), "") << size;
  }
  EXPECT_THAT(check_jpeg2000(whole, {4, 8, 16}, stream), HasSubstr("is of 8x4 values"));
  EXPECT_THAT(check_jpeg2000(whole, {8, 4, 8}, stream), HasSubstr("values of 12 bits"));
}

}  // namespace
}  // namespace segmamba::io
