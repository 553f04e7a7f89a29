#pragma once
// DICOM files as bytes, made and read without GDCM. Layout: PS3.5 and PS3.10 of the standard;
// explicit VR, little-endian.

#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace segmamba::test {

// A tag as group and element in one number: 0x00100020 is Patient ID (0010,0020).
class DicomBytes {
 public:
  struct Element {
    std::string type;  // value representation
    std::string value;
    std::vector<DicomBytes> items;  // where the type is SQ
  };

  DicomBytes() = default;
  // The data set of a file that `write` or another program wrote.
  explicit DicomBytes(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    const std::string bytes{std::istreambuf_iterator<char>(file), {}};
    if (bytes.compare(kPreamble, 4, "DICM") != 0) throw std::runtime_error("no DICM mark");
    std::string_view rest = std::string_view(bytes).substr(kPreamble + 4);
    parse(rest);
    if (!rest.empty()) throw std::runtime_error("bytes after the data set");
  }

  DicomBytes& text(std::uint32_t tag, const std::string& type, std::string value) {
    if (value.size() % 2 != 0) value += type == "UI" ? '\0' : ' ';
    elements_[tag] = {type, value, {}};
    return *this;
  }
  template <class T>
  DicomBytes& numbers(std::uint32_t tag, const std::string& type, const std::vector<T>& values) {
    std::string bytes(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
    if (bytes.size() % 2 != 0) bytes += '\0';
    elements_[tag] = {type, bytes, {}};
    return *this;
  }
  DicomBytes& number(std::uint32_t tag, std::uint16_t value) {
    return numbers(tag, "US", std::vector{value});
  }
  DicomBytes& items(std::uint32_t tag, std::vector<DicomBytes> items) {
    elements_[tag] = {"SQ", "", std::move(items)};
    return *this;
  }
  DicomBytes& remove(std::uint32_t tag) {
    elements_.erase(tag);
    return *this;
  }

  bool has(std::uint32_t tag) const { return elements_.contains(tag); }
  const Element& at(std::uint32_t tag) const { return elements_.at(tag); }
  // Without padding.
  std::string text(std::uint32_t tag) const {
    std::string value = at(tag).value;
    while (!value.empty() && (value.back() == ' ' || value.back() == '\0')) value.pop_back();
    return value;
  }
  template <class T>
  std::vector<T> numbers(std::uint32_t tag) const {
    const std::string& bytes = at(tag).value;
    std::vector<T> values(bytes.size() / sizeof(T));
    std::memcpy(values.data(), bytes.data(), values.size() * sizeof(T));
    return values;
  }
  const std::vector<DicomBytes>& items(std::uint32_t tag) const { return at(tag).items; }
  const DicomBytes& item(std::uint32_t tag) const { return at(tag).items.at(0); }
  const std::map<std::uint32_t, Element>& elements() const { return elements_; }

  // The data set alone.
  std::string encode() const {
    std::string bytes;
    for (const auto& [tag, element] : elements_) append_element(bytes, tag, element);
    return bytes;
  }
  // With preamble and file meta information.
  std::string file(const std::string& transfer_syntax = "1.2.840.10008.1.2.1") const {
    DicomBytes meta;
    meta.numbers(0x00020001, "OB", std::vector<std::uint8_t>{0, 1});
    meta.text(0x00020002, "UI", text(0x00080016));
    meta.text(0x00020003, "UI", text(0x00080018));
    meta.text(0x00020010, "UI", transfer_syntax);
    meta.text(0x00020012, "UI", "1.2.3.4");
    meta.numbers(0x00020000, "UL", std::vector{static_cast<std::uint32_t>(meta.encode().size())});
    return std::string(kPreamble, '\0') + "DICM" + meta.encode() + encode();
  }
  void write(const std::filesystem::path& path) const {
    std::ofstream(path, std::ios::binary) << file();
  }

 private:
  static constexpr std::size_t kPreamble = 128;
  static constexpr std::uint32_t kUndefined = 0xffffffff;
  static constexpr std::uint32_t kItem = 0xfffee000, kItemEnd = 0xfffee00d, kEnd = 0xfffee0dd;

  static bool is_long(const std::string& type) {
    return type == "OB" || type == "OW" || type == "SQ" || type == "UN" || type == "UT" ||
           type == "OF";
  }
  template <class T>
  static void append(std::string& bytes, T value) {
    const auto raw = std::bit_cast<std::array<char, sizeof(T)>>(value);
    bytes.append(raw.begin(), raw.end());
  }
  static void append_tag(std::string& bytes, std::uint32_t tag) {
    append(bytes, static_cast<std::uint16_t>(tag >> 16));
    append(bytes, static_cast<std::uint16_t>(tag));
  }
  static void append_element(std::string& bytes, std::uint32_t tag, const Element& element) {
    std::string value = element.value;
    for (const auto& item : element.items) {
      const std::string content = item.encode();
      append_tag(value, kItem);
      append(value, static_cast<std::uint32_t>(content.size()));
      value += content;
    }
    append_tag(bytes, tag);
    bytes += element.type;
    if (is_long(element.type)) {
      append(bytes, std::uint16_t{0});
      append(bytes, static_cast<std::uint32_t>(value.size()));
    } else {
      append(bytes, static_cast<std::uint16_t>(value.size()));
    }
    bytes += value;
  }

  template <class T>
  static T take(std::string_view& bytes) {
    if (bytes.size() < sizeof(T)) throw std::runtime_error("the data set ends too early");
    T value;
    std::memcpy(&value, bytes.data(), sizeof(T));
    bytes.remove_prefix(sizeof(T));
    return value;
  }
  static std::uint32_t take_tag(std::string_view& bytes) {
    const auto group = take<std::uint16_t>(bytes);
    return std::uint32_t{group} << 16 | take<std::uint16_t>(bytes);
  }

  // Up to the end of `bytes`, or of an item of undefined length.
  void parse(std::string_view& bytes) {
    while (!bytes.empty()) {
      const std::uint32_t tag = take_tag(bytes);
      if (tag == kItemEnd) {
        take<std::uint32_t>(bytes);
        return;
      }
      Element element;
      element.type = bytes.substr(0, 2);
      bytes.remove_prefix(2);
      if (is_long(element.type)) take<std::uint16_t>(bytes);
      const std::uint32_t length =
          is_long(element.type) ? take<std::uint32_t>(bytes) : take<std::uint16_t>(bytes);
      if (length == kUndefined) {
        parse_items(bytes, element.items);
      } else {
        if (length > bytes.size()) throw std::runtime_error("the data set ends too early");
        std::string_view value = bytes.substr(0, length);
        bytes.remove_prefix(length);
        if (element.type == "SQ") {
          parse_items(value, element.items);
        } else {
          element.value = value;
        }
      }
      if (tag >> 16 != 2) elements_[tag] = element;
    }
  }
  static void parse_items(std::string_view& bytes, std::vector<DicomBytes>& items) {
    while (!bytes.empty()) {
      const std::uint32_t tag = take_tag(bytes);
      const auto length = take<std::uint32_t>(bytes);
      if (tag == kEnd) return;
      if (tag != kItem) throw std::runtime_error("an item was expected");
      if (length == kUndefined) {
        items.emplace_back().parse(bytes);
      } else {
        std::string_view content = bytes.substr(0, length);
        items.emplace_back().parse(content);
        bytes.remove_prefix(length);
      }
    }
  }

  std::map<std::uint32_t, Element> elements_;
};

// Tags that tests set or look at.
namespace tag {
inline constexpr std::uint32_t kSopClass = 0x00080016, kSopInstance = 0x00080018,
                               kModality = 0x00080060, kSeriesDescription = 0x0008103e,
                               kPatientName = 0x00100010, kPatientId = 0x00100020,
                               kThickness = 0x00180050, kStudy = 0x0020000d, kSeries = 0x0020000e,
                               kInstanceNumber = 0x00200013, kPosition = 0x00200032,
                               kOrientation = 0x00200037, kFrameOfReference = 0x00200052,
                               kSamples = 0x00280002, kPhotometric = 0x00280004,
                               kFrames = 0x00280008, kRows = 0x00280010, kColumns = 0x00280011,
                               kPixelSpacing = 0x00280030, kBitsAllocated = 0x00280100,
                               kBitsStored = 0x00280101, kHighBit = 0x00280102,
                               kSigned = 0x00280103, kIntercept = 0x00281052, kSlope = 0x00281053,
                               kModalityTable = 0x00283000, kSharedGroups = 0x52009229,
                               kFrameGroups = 0x52009230, kPlanePosition = 0x00209113,
                               kPlaneOrientation = 0x00209116, kPixelMeasures = 0x00289110,
                               kValueTransformation = 0x00289145, kPixels = 0x7fe00010;
}  // namespace tag

inline constexpr int kColumns = 5, kRows = 3;

// Slice z of an oblique MR series: [kRows, kColumns] voxels of 0.5 x 0.75 mm, 2 mm apart, values
// 100 z + 0, 1, 2, ... as int16.
inline DicomBytes dicom_slice(int z) {
  DicomBytes slice;
  slice.text(tag::kSopClass, "UI", "1.2.840.10008.5.1.4.1.1.4");
  slice.text(tag::kSopInstance, "UI", "1.2.3.100." + std::to_string(z));
  slice.text(0x00080020, "DA", "20240131");
  slice.text(0x00080030, "TM", "");
  slice.text(tag::kModality, "CS", "MR");
  slice.text(tag::kSeriesDescription, "LO", "t1c mprage");
  slice.text(tag::kPatientName, "PN", "Doe^Jane");
  slice.text(tag::kPatientId, "LO", "P1");
  slice.text(tag::kStudy, "UI", "1.2.3.1");
  slice.text(tag::kSeries, "UI", "1.2.3.2");
  // Neither the order of instance numbers nor that of names is the order along the normal.
  slice.text(tag::kInstanceNumber, "IS", std::to_string(z * 7 % 5));
  slice.text(tag::kFrameOfReference, "UI", "1.2.3.3");
  slice.number(tag::kSamples, 1);
  slice.text(tag::kPhotometric, "CS", "MONOCHROME2");
  slice.number(tag::kRows, kRows).number(tag::kColumns, kColumns);
  slice.number(tag::kBitsAllocated, 16).number(tag::kBitsStored, 16);
  slice.number(tag::kHighBit, 15).number(tag::kSigned, 1);
  slice.text(tag::kPixelSpacing, "DS", "0.75\\0.5");
  // Rows run along (0.6, 0, 0.8), columns along y, so that the normal is (-0.8, 0, 0.6).
  slice.text(tag::kOrientation, "DS", "0.6\\0\\0.8\\0\\1\\0");
  slice.text(tag::kPosition, "DS",
             std::to_string(10 - 1.6 * z) + "\\-20\\" + std::to_string(30 + 1.2 * z));
  std::vector<std::int16_t> values(std::size_t{kRows} * kColumns);
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<std::int16_t>(100 * z + static_cast<int>(i));
  }
  slice.numbers(tag::kPixels, "OW", values);
  return slice;
}

}  // namespace segmamba::test
