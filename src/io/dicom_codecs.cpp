#include "dicom_codecs.h"

#include <gdcmDataElement.h>
#include <gdcmJPEG2000Codec.h>
#include <gdcmJPEGLSCodec.h>
#include <gdcmSequenceOfFragments.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <new>

#include "dicom_codestream.h"
#include "gdcm_door.h"
#include "segmamba/core/text.h"

namespace segmamba::io {
namespace {

constexpr auto kNotDecoded = "cannot be decoded";

// PackBits: `step` bytes apart, from output[first] on, until the output is full.
bool unpack(std::string_view packed, std::span<char> output, std::size_t first, std::size_t step) {
  std::size_t at = 0, target = first;
  while (target < output.size()) {
    if (at == packed.size()) return false;
    const int code = static_cast<std::int8_t>(packed[at++]);
    if (code == -128) continue;
    const bool is_run = code < 0;
    const auto count = static_cast<std::size_t>(is_run ? 1 - code : 1 + code);
    if (packed.size() - at < (is_run ? 1 : count)) return false;
    if ((output.size() - target + step - 1) / step < count) return false;
    for (std::size_t i = 0; i < count; ++i, target += step) {
      output[target] = packed[is_run ? at : at + i];
    }
    at += is_run ? 1 : count;
  }
  return true;
}

// Values of fewer bytes than output has for each.
void widen(std::string_view values, bool is_signed, std::span<char> output) {
  const std::size_t count = values.size(), bytes = output.size() / count;
  for (std::size_t i = 0; i < count; ++i) {
    output[bytes * i] = values[i];
    const bool is_negative = is_signed && values[i] < 0;
    std::fill_n(&output[bytes * i + 1], bytes - 1, is_negative ? '\xff' : '\0');
  }
}

// Throws std::bad_alloc where there is not even the memory that every decoder takes for a frame.
// Those in C fail for want of it without a word, as they do at a damaged stream, whose sizes are
// not to be believed: of a large frame, so much as one of 2048x2048 takes is asked for.
void refuse_short_memory_for(const FrameShape& shape) {
  constexpr std::size_t kBuffer = std::size_t{1} << 20;  // of OpenJPEG's streams
  constexpr std::size_t kMost = std::size_t{24} << 20;
  const auto frame = shape.pixels() * sizeof(std::int32_t) + shape.bytes();
  ::operator delete(::operator new(kBuffer + std::min(frame, kMost)));
}

// GDCM takes a header for damaged that allocates more bytes for a value than its stream needs, so
// it gets one of its own.
template <class Codec>
std::string decode_by_gdcm(Codec& codec, const Codestream& stream, const FrameShape& shape,
                           std::span<char> output) {
  const int bits = stream.precision <= 8 ? 8 : stream.precision <= 16 ? 16 : 32;
  const std::array size = {static_cast<unsigned>(shape.columns), static_cast<unsigned>(shape.rows),
                           1u};
  codec.SetNumberOfDimensions(2);
  codec.SetDimensions(size.data());
  codec.SetPlanarConfiguration(0);
  codec.SetPhotometricInterpretation(gdcm::PhotometricInterpretation::MONOCHROME2);
  codec.SetNeedOverlayCleanup(false);
  codec.SetPixelFormat(gdcm::PixelFormat(
      1, static_cast<std::uint16_t>(bits), static_cast<std::uint16_t>(stream.precision),
      static_cast<std::uint16_t>(stream.precision - 1), stream.is_signed ? 1 : 0));
  const auto fragments = gdcm::SequenceOfFragments::New();
  gdcm::Fragment fragment;
  fragment.SetByteValue(stream.bytes.data(), static_cast<std::uint32_t>(stream.bytes.size()));
  fragments->AddFragment(fragment);
  gdcm::DataElement coded(kPixelData), decoded(kPixelData);
  coded.SetValue(*fragments);
  if (!succeeds([&] { return codec.Decode(coded, decoded); })) {
    refuse_short_memory_for(shape);
    return kNotDecoded;
  }
  const gdcm::ByteValue* bytes = decoded.GetByteValue();
  const std::size_t expected = shape.pixels() * static_cast<std::size_t>(bits / 8);
  if (bytes == nullptr || bytes->GetLength() < expected) return "lacks values";
  const std::string_view values(bytes->GetPointer(), expected);
  if (expected == output.size()) {
    std::copy(values.begin(), values.end(), output.begin());
  } else if (bits == 8) {
    widen(values, stream.is_signed, output);
  } else {
    return concat("has values of ", stream.precision, " bits, the header allocates ",
                  shape.bits_allocated);
  }
  return "";
}

std::string decode_jpeg(std::string_view frame, const FrameShape& shape, std::span<char> output) {
  Codestream stream;
  auto fault = check_jpeg(frame, shape, stream);
  if (!fault.empty()) return fault;
  if (stream.process == kLosslessJpeg) return decode_lossless_jpeg(stream.bytes, shape, output);
  if (stream.process != kJpegLs) return decode_dct_jpeg(stream.bytes, shape, output);
  gdcm::JPEGLSCodec codec;
  return decode_by_gdcm(codec, stream, shape, output);
}

std::string decode_jpeg_2000(std::string_view frame, const FrameShape& shape,
                             std::span<char> output) {
  Codestream stream;
  auto fault = check_jpeg2000(frame, shape, stream);
  if (!fault.empty()) return fault;
  gdcm::JPEG2000Codec codec;
  codec.SetNumberOfThreadsForDecompression(0);
  return decode_by_gdcm(codec, stream, shape, output);
}

}  // namespace

std::string decode_rle(std::string_view frame, const FrameShape& shape, std::span<char> output) {
  constexpr std::size_t kHeader = 64;
  const auto planes = static_cast<std::size_t>(shape.bits_allocated / 8);
  if (frame.size() < kHeader) return "is truncated";
  std::array<std::uint32_t, kHeader / 4> header{};
  std::memcpy(header.data(), frame.data(), kHeader);
  if (header[0] != planes) {
    return concat("has ", header[0], " planes of bytes, the header says ", planes);
  }
  for (std::size_t plane = 0; plane < planes; ++plane) {  // the highest bytes first
    const std::size_t begin = header[1 + plane];
    const std::size_t end = plane + 1 < planes ? header[2 + plane] : frame.size();
    if (begin < kHeader || end < begin || end > frame.size()) return "has a damaged header";
    if (!unpack(frame.substr(begin, end - begin), output, planes - 1 - plane, planes)) {
      return "lacks values or has too many";
    }
  }
  return "";
}

std::string decode_frame(DicomCompression compression, std::string_view frame,
                         const FrameShape& shape, std::span<char> output) {
  switch (compression) {
    case DicomCompression::kRle:
      return decode_rle(frame, shape, output);
    case DicomCompression::kJpeg:
      return decode_jpeg(frame, shape, output);
    case DicomCompression::kJpeg2000:
      return decode_jpeg_2000(frame, shape, output);
    default:
      return kNotDecoded;
  }
}

}  // namespace segmamba::io
