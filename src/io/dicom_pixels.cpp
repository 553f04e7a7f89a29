#include "dicom_pixels.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "dicom_codecs.h"
#include "segmamba/core/error.h"
#include "segmamba/core/text.h"

namespace segmamba::io {
namespace {

[[noreturn]] void fail_damaged(const DicomFile& file, const std::string& what) {
  throw DamagedFileError(concat(file.path.string(), ": is damaged or truncated: ", what));
}

FrameShape shape_of(const DicomFile& file) {
  return {file.columns, file.rows, file.bits_allocated};
}

const DicomElement& pixels_of(const DicomFile& file, const DicomContent& content) {
  const DicomElement* pixels = content.set().find(kPixelTag);
  if (pixels == nullptr) fail_damaged(file, "it has no pixel data that can be read");
  return *pixels;
}

void refuse_unreadable(const DicomFile& file, const DicomSyntax& syntax,
                       const DicomElement& pixels) {
  if (syntax.compression == DicomCompression::kOther) {
    throw Error(concat(file.path.string(), ": its pixel data are in the transfer syntax ",
                       syntax.uid,
                       ", which is not supported; convert them to explicit VR little-endian"));
  }
  const bool is_coded = syntax.compression != DicomCompression::kNone;
  if (is_coded == pixels.fragments.empty()) {
    fail_damaged(file, concat("its pixel data are ", is_coded ? "not " : "",
                              "compressed, unlike its transfer syntax says"));
  }
}

std::size_t total(const std::vector<std::string_view>& fragments) {
  return std::accumulate(
      fragments.begin(), fragments.end(), std::size_t{0},
      [](std::size_t sum, std::string_view bytes) { return sum + bytes.size(); });
}

// The fragments of each frame: all of the only one, one of each, or as the offset table says.
std::vector<std::vector<std::string_view>> frames_of(const DicomFile& file,
                                                     const DicomElement& pixels) {
  const std::string_view offsets = pixels.fragments.front();
  const std::span fragments = std::span(pixels.fragments).subspan(1);
  const std::size_t count = file.frames.size();
  if (count == 1) return {{fragments.begin(), fragments.end()}};
  std::vector<std::vector<std::string_view>> frames;
  if (fragments.size() == count) {
    for (const auto fragment : fragments) frames.push_back({fragment});
    return frames;
  }
  if (offsets.size() != sizeof(std::uint32_t) * count) {
    fail_damaged(file,
                 concat("it does not tell which of its ", fragments.size(),
                        " fragments of pixel data belong to which of its ", count, " frames"));
  }
  std::size_t place = 0;
  for (const auto fragment : fragments) {
    std::uint32_t next = 0;
    if (frames.size() < count) {
      std::memcpy(&next, offsets.data() + sizeof(next) * frames.size(), sizeof(next));
      if (next == place) frames.emplace_back();
    }
    if (frames.empty()) break;
    frames.back().push_back(fragment);
    constexpr std::size_t kItemHeader = 8;
    place += kItemHeader + fragment.size();
  }
  if (frames.size() != count) fail_damaged(file, "its table of frames does not fit its fragments");
  return frames;
}

// Big-endian values in the order of this machine's.
void swap_bytes(std::span<char> bytes, std::size_t unit) {
  for (std::size_t i = 0; i + unit <= bytes.size(); i += unit) {
    std::reverse(bytes.begin() + static_cast<std::ptrdiff_t>(i),
                 bytes.begin() + static_cast<std::ptrdiff_t>(i + unit));
  }
}

// The stored bytes of one frame after the other, little-endian.
class StoredFrames {
 public:
  StoredFrames(const DicomFile& file, const DicomContent& content)
      : file_(file), syntax_(content.syntax()), pixels_(pixels_of(file, content)) {
    refuse_unreadable(file, syntax_, pixels_);
    if (!pixels_.fragments.empty()) coded_ = frames_of(file, pixels_);
  }

  // Valid up to the next call.
  std::string_view frame(std::size_t index) {
    const FrameShape shape = shape_of(file_);
    if (coded_.empty()) {
      const auto stored = pixels_.value.substr(index * shape.bytes(), shape.bytes());
      const std::size_t unit =
          pixels_.is_of_bytes ? 1 : std::max<std::size_t>(2, shape.bytes() / shape.pixels());
      if (!syntax_.is_big_endian || unit == 1) return stored;
      buffer_ = stored;
      swap_bytes(buffer_, unit);
      return buffer_;
    }
    joined_.clear();
    const auto& fragments = coded_[index];
    if (fragments.size() != 1) {
      joined_.reserve(total(fragments));
      for (const auto fragment : fragments) joined_ += fragment;
    }
    buffer_.resize(shape.bytes());
    const auto fault = decode_frame(
        syntax_.compression, fragments.size() == 1 ? fragments.front() : std::string_view(joined_),
        shape, buffer_);
    if (!fault.empty()) {
      throw DamagedFileError(concat(file_.path.string(), ": is damaged: its compressed pixel data",
                                    coded_.size() > 1 ? concat(" of frame ", index + 1) : "",
                                    " cannot be decoded: the stream ", fault));
    }
    return buffer_;
  }

 private:
  const DicomFile& file_;
  const DicomSyntax& syntax_;
  const DicomElement& pixels_;
  std::vector<std::vector<std::string_view>> coded_;
  std::string buffer_, joined_;
};

// Bits above those stored are not part of a value (old files keep overlays there).
template <class Stored>
float value_of(const char* bytes, int unused, double slope, double intercept) {
  Stored stored{};
  std::memcpy(&stored, bytes, sizeof(Stored));
  using Unsigned = std::make_unsigned_t<Stored>;
  stored = static_cast<Stored>(static_cast<Unsigned>(static_cast<Unsigned>(stored) << unused));
  stored = static_cast<Stored>(stored >> unused);
  return static_cast<float>(static_cast<double>(stored) * slope + intercept);
}

template <class Stored>
void convert(const DicomFile& file, const DicomFrame& frame, std::string_view bytes,
             std::span<float> values) {
  const int unused = static_cast<int>(8 * sizeof(Stored)) - file.bits_stored;
  const char* source = bytes.data();
  for (float& value : values) {
    value = value_of<Stored>(source, unused, frame.slope, frame.intercept);
    source += sizeof(Stored);
  }
  const auto bad = std::count_if(values.begin(), values.end(),
                                 [](float value) { return !std::isfinite(value); });
  if (bad > 0) {
    throw NotFiniteError(concat(file.path.string(), ": ", bad, " of ", values.size(),
                                " values are not finite (rescale slope ", frame.slope,
                                ", intercept ", frame.intercept, ")"));
  }
}

using Convert = void (*)(const DicomFile&, const DicomFrame&, std::string_view, std::span<float>);

Convert converter_of(const DicomFile& file) {
  switch (file.bits_allocated) {
    case 8:
      return file.is_signed ? convert<std::int8_t> : convert<std::uint8_t>;
    case 16:
      return file.is_signed ? convert<std::int16_t> : convert<std::uint16_t>;
    default:
      return file.is_signed ? convert<std::int32_t> : convert<std::uint32_t>;
  }
}

}  // namespace

void check_pixels(const DicomFile& file, const DicomContent& content) {
  // Of blank frames, by JPEG 2000. Frames so large that decoders take much memory for them hold
  // more than that: JPEG-LS takes twice what is promised before it finds out what its stream holds.
  constexpr std::size_t kLargestRatio = 10'000, kLargestRatioOfLarge = 45;
  constexpr std::size_t kLargeFrame = std::size_t{1} << 22;  // pixels
  const DicomElement& pixels = pixels_of(file, content);
  // One value a pixel: colour is refused by those who read.
  const std::size_t pixel_count =
      static_cast<std::size_t>(file.columns * file.rows) * file.frames.size();
  const std::size_t promised =
      (pixel_count * static_cast<std::size_t>(file.bits_allocated) + 7) / 8;
  const bool is_coded = !pixels.fragments.empty();
  const std::size_t held = is_coded ? total(pixels.fragments) : pixels.value.size();
  const bool is_large = shape_of(file).pixels() > kLargeFrame;
  const std::size_t ratio = !is_coded ? 1 : is_large ? kLargestRatioOfLarge : kLargestRatio;
  if (promised / ratio > held) {
    fail_damaged(file,
                 concat("its header promises ", promised, " bytes of pixel data, it holds ", held));
  }
}

void read_frames(const DicomFile& file,
                 const std::function<std::span<float>(std::size_t frame)>& target) {
  const DicomContent content(file.path);
  check_pixels(file, content);  // the file may have changed since
  StoredFrames stored(file, content);
  const Convert convert = converter_of(file);
  for (std::size_t i = 0; i < file.frames.size(); ++i) {
    const auto bytes = stored.frame(i);  // first: there is no target for what does not decode
    convert(file, file.frames[i], bytes, target(i));
  }
}

}  // namespace segmamba::io
