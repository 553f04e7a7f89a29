#pragma once
// A DICOM file taken apart without trust in it: PS3.5 (data sets, encapsulation) and PS3.10 (file).

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "segmamba/core/mapped_file.h"

namespace segmamba::io {

inline constexpr std::uint32_t kPixelTag = 0x7fe00010;

struct DicomElement;

// Elements in ascending order of their tags.
class DicomSet {
 public:
  // A tag is group and element in one number: 0x00100020 is Patient ID (0010,0020). Null where
  // there is none.
  const DicomElement* find(std::uint32_t tag) const;
  void append(DicomElement element);

 private:
  std::vector<DicomElement> elements_;
};

// The bytes are views into the file. Sequences that nobody asks for (private ones, and in implicit
// VR all but those of functional groups) are left as bytes where their length is told.
struct DicomElement {
  std::uint32_t tag = 0;
  std::string_view value;
  std::vector<DicomSet> items;              // of a sequence
  std::vector<std::string_view> fragments;  // of encapsulated pixels, the offset table first
  bool is_of_bytes = false;                 // OB: no words that an order of bytes could swap
};

// JPEG-LS is one of the processes of JPEG.
enum class DicomCompression { kNone, kRle, kJpeg, kJpeg2000, kOther };

struct DicomSyntax {
  std::string uid;
  DicomCompression compression = DicomCompression::kNone;
  bool is_explicit = true, is_big_endian = false, is_deflated = false;
};

// Maps the file; memory is taken for what a deflated one holds and for 2^19 elements at most.
// Throws DamagedFileError, with the place, where the mark, the file meta information or the
// transfer syntax is missing; and for elements out of order, of an unknown value representation,
// that reach beyond the file or what encloses them, that do not end, or that are nested too deeply.
// Zeros behind the data set are taken for padding.
class DicomContent {
 public:
  explicit DicomContent(const std::filesystem::path& path);

  const DicomSyntax& syntax() const { return syntax_; }
  const DicomSet& meta() const { return meta_; }
  const DicomSet& set() const { return set_; }

 private:
  MappedFile file_;
  std::string inflated_;
  DicomSyntax syntax_;
  DicomSet meta_, set_;
};

// Whether the file has the mark of DICOM files ("DICM" after 128 bytes). Throws Error where it
// cannot be read.
bool has_dicom_mark(const std::filesystem::path& path);

// Without the padding to an even length: a space or, for UIDs, a zero.
std::string text_of(const DicomSet& set, std::uint32_t tag);
// To show: with ? for what is no printable character of ASCII.
std::string printable_text_of(const DicomSet& set, std::uint32_t tag);

}  // namespace segmamba::io
