#pragma once
// Text of a file that cannot be trusted, fit for one line of a message.

#include <string>

namespace segmamba::nn {

inline std::string printable(std::string text) {
  constexpr std::size_t kMaxBytes = 1000;
  if (text.size() > kMaxBytes) text.replace(kMaxBytes, std::string::npos, "...");
  for (auto& letter : text) {
    if (static_cast<unsigned char>(letter) < 0x20 || letter == 0x7f) letter = '?';
  }
  // U+0080 to U+009F are control characters, too: U+009B is what ESC [ is.
  for (std::size_t i = 0; i + 1 < text.size(); ++i) {
    if (text[i] == '\xc2' && static_cast<unsigned char>(text[i + 1]) < 0xa0) {
      text.replace(i, 2, 1, '?');
    }
  }
  return text;
}

}  // namespace segmamba::nn
