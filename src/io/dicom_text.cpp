#include "dicom_text.h"

#include <algorithm>
#include <cstdint>
#include <optional>

#include "segmamba/core/text.h"

namespace segmamba::io {
namespace {

constexpr std::size_t kLongest = 64;

struct Character {
  std::uint32_t code = 0;
  std::size_t bytes = 1;
};

// The first character of a text that is not empty; nothing where it is not UTF-8.
std::optional<Character> first_of(std::string_view text) {
  const auto byte = [&](std::size_t at) { return static_cast<unsigned char>(text[at]); };
  if (byte(0) < 0x80) return Character{byte(0), 1};
  const std::size_t bytes = byte(0) >= 0xf0 ? 4 : byte(0) >= 0xe0 ? 3 : 2;
  if (byte(0) < 0xc2 || byte(0) > 0xf4 || bytes > text.size()) return std::nullopt;
  std::uint32_t code = byte(0) & (0xffu >> (bytes + 1));
  for (std::size_t i = 1; i < bytes; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return std::nullopt;
    code = code << 6 | (byte(i) & 0x3fu);
  }
  const bool is_overlong = code < (bytes == 3 ? 0x800u : bytes == 4 ? 0x10000u : 0x80u);
  const bool is_surrogate = code >= 0xd800 && code < 0xe000;
  if (is_overlong || is_surrogate || code > 0x10ffff) return std::nullopt;
  return Character{code, bytes};
}

bool is_printable(std::uint32_t code) {
  return code >= ' ' && code != '\\' && !(code >= 0x7f && code < 0xa0);
}

std::string from_latin_1(std::string_view text) {
  std::string utf8;
  for (const char c : text) {
    const auto code = static_cast<unsigned char>(c);
    if (code < 0x80) {
      utf8 += c;
    } else {
      utf8 += static_cast<char>(0xc0 | code >> 6);
      utf8 += static_cast<char>(0x80 | (code & 0x3f));
    }
  }
  return utf8;
}

}  // namespace

std::string to_dicom_text(std::string_view text, const std::string& otherwise) {
  std::string result;
  std::size_t characters = 0;
  while (!text.empty() && characters < kLongest) {
    const auto first = first_of(text);
    const std::size_t bytes = first ? first->bytes : 1;
    result += first && is_printable(first->code) ? std::string(text.substr(0, bytes)) : "_";
    text.remove_prefix(bytes);
    ++characters;
  }
  result = trim(result);
  return result.empty() ? otherwise : result;
}

bool is_dicom_text(std::string_view text) { return to_dicom_text(text, " ") == text; }

bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](unsigned char c) { return c < 0x80; });
}

std::string to_ascii(std::string_view text) {
  std::string ascii;
  while (!text.empty()) {
    const auto first = first_of(text);
    ascii += first && first->code < 0x80 ? text.front() : '?';
    text.remove_prefix(first ? first->bytes : 1);
  }
  return ascii;
}

bool to_utf8(std::vector<DicomAttribute>& attributes) {
  constexpr auto kUtf8 = "ISO_IR 192", kLatin1 = "ISO_IR 100", kAscii = "ISO_IR 6";
  const auto declaration =
      std::find_if(attributes.begin(), attributes.end(), [](const DicomAttribute& attribute) {
        return attribute.group == 0x0008 && attribute.element == 0x0005;
      });
  const std::string declared = declaration == attributes.end() ? kAscii : declaration->value;
  if (declared == kUtf8) return true;
  const bool is_plain = std::all_of(attributes.begin(), attributes.end(),
                                    [](const DicomAttribute& a) { return is_ascii(a.value); });
  if (declared != kLatin1 && !(declared == kAscii && is_plain)) return false;
  for (auto& attribute : attributes) attribute.value = from_latin_1(attribute.value);
  if (declaration == attributes.end()) {
    attributes.push_back({0x0008, 0x0005, kUtf8});
  } else {
    declaration->value = kUtf8;
  }
  return true;
}

}  // namespace segmamba::io
