#pragma once
// Names in messages.

#include <algorithm>
#include <string>
#include <vector>

#include "segmamba/core/text.h"

namespace segmamba::eval {

// "a, b, c and 9 more"
inline std::string listed(const std::vector<std::string>& names) {
  constexpr std::size_t kShown = 3;
  const auto shown = static_cast<std::ptrdiff_t>(std::min(names.size(), kShown));
  std::string text = join(std::vector<std::string>(names.begin(), names.begin() + shown), ", ");
  if (names.size() > kShown) text += concat(" and ", names.size() - kShown, " more");
  return text;
}

}  // namespace segmamba::eval
