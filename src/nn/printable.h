#pragma once
// Text of a file that cannot be trusted, fit for one line of a message.

#include <string>

namespace segmamba::nn {

inline std::string printable(std::string text) {
  constexpr std::size_t kMaxBytes = 1000;
  if (text.size() > kMaxBytes) text = text.substr(0, kMaxBytes) + "...";
  for (auto& letter : text) {
    if (static_cast<unsigned char>(letter) < 0x20 || letter == 0x7f) letter = '?';
  }
  return text;
}

}  // namespace segmamba::nn
