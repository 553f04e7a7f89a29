#pragma once
// Text in a derived DICOM object (PS3.3 C.12.1.1.2, PS3.5 6.1): ours is UTF-8, the source's in the
// character set that it declares.

#include <string>
#include <string_view>
#include <vector>

#include "dicom_series.h"

namespace segmamba::io {

// 1 to 64 printable characters of UTF-8, neither a backslash nor spaces around them: a value of LO.
bool is_dicom_text(std::string_view text);

// The nearest text that is one; `otherwise` where nothing is left.
std::string to_dicom_text(std::string_view text, const std::string& otherwise);

bool is_ascii(std::string_view text);
// With ? for each other character.
std::string to_ascii(std::string_view text);

// Turns the values to UTF-8 and declares that. False, and nothing is changed, where the source's
// character set is neither ASCII, Latin-1 nor UTF-8: ASCII is part of every other one.
bool to_utf8(std::vector<DicomAttribute>& attributes);

}  // namespace segmamba::io
