#include "dicom_structure.h"

#include <zlib.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <memory>
#include <new>
#include <utility>

#include "segmamba/core/error.h"
#include "segmamba/core/memory.h"
#include "segmamba/core/text.h"
#include "segmamba/io/volume.h"

namespace segmamba::io {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kPreamble = 128;
constexpr std::string_view kMark = "DICM";
constexpr std::uint32_t kItem = 0xfffee000, kItemEnd = 0xfffee00d, kSequenceEnd = 0xfffee0dd;
constexpr std::uint32_t kUndefined = 0xffffffff;
constexpr std::uint32_t kTransferSyntax = 0x00020010;
constexpr int kDeepest = 32;
// A damaged or hostile file must not take any amount of memory. Thousands of frames have some
// hundred thousand elements.
constexpr std::size_t kMostElements = std::size_t{1} << 19;

// Value representations with a length of 32 and of 16 bits.
constexpr std::string_view kLong = "OB OD OF OL OV OW SQ SV UC UN UR UT UV";
constexpr std::string_view kShort =
    "AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US";

bool is_one_of(std::string_view list, std::string_view type) {
  const std::size_t found = list.find(type);
  return found != std::string_view::npos && found % 3 == 0;
}

// Sequences to look into where implicit VR does not say that they are some: functional groups and
// the modality table.
bool is_known_sequence(std::uint32_t tag) {
  constexpr std::array<std::uint32_t, 7> kSequences = {
      0x00209113, 0x00209116, 0x00283000, 0x00289110, 0x00289145, 0x52009229, 0x52009230};
  return std::binary_search(kSequences.begin(), kSequences.end(), tag);
}

bool is_private(std::uint32_t tag) { return (tag >> 16) % 2 == 1; }

std::string name_of(std::uint32_t tag) {
  std::array<char, 16> text{};
  std::snprintf(text.data(), text.size(), "(%04x,%04x)", tag >> 16, tag & 0xffff);
  return text.data();
}

struct Encoding {
  bool is_explicit = true, is_big_endian = false;
};

class Walker {
 public:
  Walker(const fs::path& path, std::string_view bytes, std::size_t at, Encoding encoding)
      : path_(path), bytes_(bytes), at_(at), encoding_(encoding) {}

  std::size_t at() const { return at_; }

  // The elements of group 2, wherever they end.
  DicomSet meta() {
    DicomSet set;
    std::uint32_t last = 0;
    while (bytes_.size() - at_ >= 2 && bytes_.substr(at_, 2) == std::string_view("\2\0", 2)) {
      const std::uint32_t tag = take_tag(bytes_.size());
      if (tag <= last) fail(concat("element ", name_of(tag), " is out of order"));
      last = tag;
      set.append(element(tag, bytes_.size(), 0));
    }
    return set;
  }

  DicomSet data_set() { return set(bytes_.size(), false, 0); }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw DamagedFileError(
        concat(path_.string(), ": is damaged or truncated: ", what, " (byte ", at_, ")"));
  }

  template <class T>
  T take(std::size_t end) {
    if (end - at_ < sizeof(T)) fail("it ends within an element");
    T value = 0;
    for (std::size_t i = 0; i < sizeof(T); ++i) {
      const std::size_t byte = encoding_.is_big_endian ? sizeof(T) - 1 - i : i;
      value = static_cast<T>(value | T{static_cast<unsigned char>(bytes_[at_ + byte])} << 8 * i);
    }
    at_ += sizeof(T);
    return value;
  }
  std::uint32_t take_tag(std::size_t end) {
    const std::uint32_t group = take<std::uint16_t>(end);
    return group << 16 | take<std::uint16_t>(end);
  }
  std::string_view take_bytes(std::uint32_t length, std::size_t end, std::uint32_t tag) {
    if (length > end - at_) {
      fail(concat("element ", name_of(tag), " of ", length, " bytes reaches beyond ",
                  end == bytes_.size() ? "the end of the file" : "what encloses it"));
    }
    at_ += length;
    return bytes_.substr(at_ - length, length);
  }
  void take_end(std::size_t end) {
    if (take<std::uint32_t>(end) != 0) fail("the mark of an end has a length");
  }
  void count_element() {
    if (++count_ > kMostElements) fail(concat("it has more than ", kMostElements, " elements"));
  }

  bool is_padding() const { return bytes_.find_first_not_of('\0', at_) == std::string_view::npos; }

  // Up to `end`, or to the mark of its own end.
  DicomSet set(std::size_t end, bool has_mark, int depth) {
    DicomSet set;
    std::int64_t last = -1;
    while (at_ < end) {
      if (depth == 0 && is_padding()) return set;
      const std::uint32_t tag = take_tag(end);
      if (has_mark && tag == kItemEnd) {
        take_end(end);
        return set;
      }
      if (tag <= last || tag >> 16 == kItem >> 16) {
        fail(concat("element ", name_of(tag), " is out of order"));
      }
      last = tag;
      set.append(element(tag, end, depth));
    }
    if (has_mark) fail("an item has no end");
    return set;
  }

  DicomElement element(std::uint32_t tag, std::size_t end, int depth) {
    count_element();
    DicomElement element;
    element.tag = tag;
    std::string_view type;
    std::uint32_t length = 0;
    if (encoding_.is_explicit) {
      type = take_bytes(2, end, tag);
      if (is_one_of(kLong, type)) {
        take<std::uint16_t>(end);
        length = take<std::uint32_t>(end);
      } else if (is_one_of(kShort, type)) {
        length = take<std::uint16_t>(end);
      } else {
        fail(concat("element ", name_of(tag), " has no known value representation"));
      }
    } else {
      length = take<std::uint32_t>(end);
    }
    element.is_of_bytes = type == "OB";
    const bool holds_pixels = tag == kPixelTag || type == "OB" || type == "OW";
    const bool is_sequence =
        encoding_.is_explicit ? type == "SQ" && !is_private(tag) : is_known_sequence(tag);
    if (length == kUndefined && holds_pixels) {
      element.fragments = fragments(end);
    } else if (length == kUndefined) {
      if (encoding_.is_explicit && type != "SQ" && type != "UN") {
        fail(concat("element ", name_of(tag), " has no length"));
      }
      // UN of undefined length is a sequence of implicit VR (PS3.5, 6.2.2).
      const Encoding outer = encoding_;
      if (type == "UN") encoding_ = {false, false};
      element.items = items(end, true, depth + 1);
      encoding_ = outer;
    } else if (is_sequence) {
      const std::size_t begin = at_;
      take_bytes(length, end, tag);
      element.items = items(std::exchange(at_, begin), false, depth + 1);
    } else {
      element.value = take_bytes(length, end, tag);
    }
    return element;
  }

  std::vector<DicomSet> items(std::size_t end, bool has_mark, int depth) {
    if (depth > kDeepest) fail(concat("it has sequences nested more than ", kDeepest, " deep"));
    std::vector<DicomSet> items;
    while (at_ < end) {
      const std::uint32_t tag = take_tag(end);
      if (has_mark && tag == kSequenceEnd) {
        take_end(end);
        return items;
      }
      if (tag != kItem) fail(concat(name_of(tag), " stands where an item is due"));
      count_element();
      const auto length = take<std::uint32_t>(end);
      if (length == kUndefined) {
        items.push_back(set(end, true, depth));
      } else {
        const std::size_t begin = at_;
        take_bytes(length, end, tag);
        items.push_back(set(std::exchange(at_, begin), false, depth));
      }
    }
    if (has_mark) fail("a sequence has no end");
    return items;
  }

  std::vector<std::string_view> fragments(std::size_t end) {
    std::vector<std::string_view> fragments;
    for (;;) {
      const std::uint32_t tag = take_tag(end);
      if (tag == kSequenceEnd) {
        take_end(end);
        if (fragments.empty()) fail("its pixels have no offset table");
        return fragments;
      }
      if (tag != kItem) fail(concat(name_of(tag), " stands where a fragment of pixels is due"));
      count_element();
      fragments.push_back(take_bytes(take<std::uint32_t>(end), end, tag));
    }
  }

  const fs::path& path_;
  std::string_view bytes_;
  std::size_t at_ = 0, count_ = 0;
  Encoding encoding_;
};

DicomSyntax syntax_of(const std::string& uid) {
  using enum DicomCompression;
  static const std::vector<DicomSyntax> known = {
      {"1.2.840.10008.1.2", kNone, false},
      {"1.2.840.10008.1.2.1", kNone},
      {"1.2.840.10008.1.2.1.99", kNone, true, false, true},
      {"1.2.840.10008.1.2.2", kNone, true, true},
      {"1.2.840.10008.1.2.4.50", kJpeg},
      {"1.2.840.10008.1.2.4.51", kJpeg},
      {"1.2.840.10008.1.2.4.57", kJpeg},
      {"1.2.840.10008.1.2.4.70", kJpeg},
      {"1.2.840.10008.1.2.4.80", kJpeg},
      {"1.2.840.10008.1.2.4.81", kJpeg},
      {"1.2.840.10008.1.2.4.90", kJpeg2000},
      {"1.2.840.10008.1.2.4.91", kJpeg2000},
      {"1.2.840.10008.1.2.5", kRle}};
  const auto found = std::find_if(known.begin(), known.end(),
                                  [&](const DicomSyntax& syntax) { return syntax.uid == uid; });
  // All others are in explicit VR, with pixels in their own way.
  return found != known.end() ? *found : DicomSyntax{uid, kOther};
}

std::string inflate_all(const fs::path& path, std::string_view deflated) {
  // Deflate makes at most 1032 bytes of one; images not nearly as many.
  constexpr std::size_t kLargestRatio = 100, kSmallestLimit = std::size_t{64} << 20;
  const std::size_t limit = std::max(kSmallestLimit, kLargestRatio * deflated.size());
  const auto fail = [&](const char* what) {
    throw DamagedFileError(concat(path.string(), ": is damaged or truncated: ", what));
  };
  z_stream stream{};
  int state = inflateInit2(&stream, -MAX_WBITS);
  if (state == Z_MEM_ERROR) throw std::bad_alloc();
  if (state != Z_OK) throw Error("zlib cannot be set up");
  const std::unique_ptr<z_stream, decltype(&inflateEnd)> end(&stream, &inflateEnd);
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(deflated.data()));
  stream.avail_in = static_cast<uInt>(std::min<std::size_t>(deflated.size(), kUndefined));
  std::string bytes;
  while (state == Z_OK && bytes.size() < limit) {
    constexpr std::size_t kStep = std::size_t{1} << 20;
    const std::size_t old = bytes.size();
    bytes.resize(old + std::max(kStep, old));
    stream.next_out = reinterpret_cast<Bytef*>(bytes.data() + old);
    stream.avail_out = static_cast<uInt>(bytes.size() - old);
    state = inflate(&stream, Z_NO_FLUSH);
    bytes.resize(bytes.size() - stream.avail_out);
  }
  if (state == Z_MEM_ERROR) throw std::bad_alloc();  // no damage of the file
  if (state == Z_OK) fail("its deflated data set would be larger than any image");
  if (state != Z_STREAM_END) fail("its deflated data set cannot be inflated");
  return bytes;
}

}  // namespace

const DicomElement* DicomSet::find(std::uint32_t tag) const {
  const auto found =
      std::lower_bound(elements_.begin(), elements_.end(), tag,
                       [](const DicomElement& a, std::uint32_t b) { return a.tag < b; });
  return found != elements_.end() && found->tag == tag ? &*found : nullptr;
}

void DicomSet::append(DicomElement element) { elements_.push_back(std::move(element)); }

std::string text_of(const DicomSet& set, std::uint32_t tag) {
  const DicomElement* element = set.find(tag);
  if (element == nullptr) return {};
  std::string text(element->value);
  text.erase(text.find_last_not_of(std::string_view(" \0", 2)) + 1);
  return text;
}

std::string printable_text_of(const DicomSet& set, std::uint32_t tag) {
  std::string text = text_of(set, tag);
  std::replace_if(
      text.begin(), text.end(), [](char c) { return c < ' ' || c > '~'; }, '?');
  return text;
}

bool has_dicom_mark(const fs::path& path) {
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  std::array<char, kMark.size()> bytes{};
  const bool is_long_enough = file.seekg(kPreamble) && file.read(bytes.data(), bytes.size());
  if (!file.is_open() || file.bad()) {
    refuse_short_memory(errno);
    throw ReadError(concat(path.string(), ": cannot be read: ", std::strerror(errno)));
  }
  return is_long_enough && std::string_view(bytes.data(), bytes.size()) == kMark;
}

DicomContent::DicomContent(const fs::path& path) : file_(path) {
  std::string_view bytes(reinterpret_cast<const char*>(file_.bytes().data()), file_.bytes().size());
  if (bytes.size() < kPreamble || bytes.substr(kPreamble, kMark.size()) != kMark) {
    throw DamagedFileError(concat(path.string(), ": is no DICOM file (it has no DICM mark)"));
  }
  Walker file(path, bytes, kPreamble + kMark.size(), {});
  meta_ = file.meta();
  const std::string uid = printable_text_of(meta_, kTransferSyntax);
  if (uid.empty()) {
    throw DamagedFileError(
        concat(path.string(), ": is damaged or truncated: it does not tell its transfer syntax"));
  }
  syntax_ = syntax_of(uid);
  std::size_t at = file.at();
  if (syntax_.is_deflated) {
    inflated_ = inflate_all(path, bytes.substr(at));
    bytes = inflated_;
    at = 0;
  }
  set_ = Walker(path, bytes, at, {syntax_.is_explicit, syntax_.is_big_endian}).data_set();
}

}  // namespace segmamba::io
