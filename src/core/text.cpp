#include "segmamba/core/text.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <cstdio>

namespace segmamba {
namespace {

const char* non_finite_name(double value) {
  if (std::isnan(value)) return "nan";
  return value > 0 ? "inf" : "-inf";
}

}  // namespace

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  std::size_t begin = 0;
  while (true) {
    const std::size_t end = text.find(separator, begin);
    parts.emplace_back(text.substr(begin, end - begin));
    if (end == std::string_view::npos) return parts;
    begin = end + 1;
  }
}

std::string trim(std::string_view text) {
  const auto first = text.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos) return "";
  const auto last = text.find_last_not_of(" \t\r\n");
  return std::string(text.substr(first, last - first + 1));
}

std::string to_lower(std::string_view text) {
  std::string lower(text);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return lower;
}

std::string printable(std::string text, std::size_t max_bytes) {
  if (text.size() > max_bytes) {
    const auto is_within_character = [&](std::size_t i) {
      return (static_cast<unsigned char>(text[i]) & 0xc0) == 0x80;
    };
    while (max_bytes > 0 && is_within_character(max_bytes)) --max_bytes;
    text.replace(max_bytes, std::string::npos, "...");
  }
  for (auto& letter : text) {
    if (static_cast<unsigned char>(letter) < 0x20 || letter == 0x7f) letter = '?';
  }
  // U+0080 to U+009F are control characters, too: U+009B is what ESC [ is.
  for (std::size_t i = 0; i + 1 < text.size(); ++i) {
    const auto second = static_cast<unsigned char>(text[i + 1]);
    if (text[i] == '\xc2' && second >= 0x80 && second < 0xa0) text.replace(i, 2, 1, '?');
  }
  return text;
}

bool starts_with(std::string_view text, std::string_view prefix) {
  return text.starts_with(prefix);
}

bool ends_with(std::string_view text, std::string_view suffix) { return text.ends_with(suffix); }

std::optional<std::int64_t> to_integer(std::string_view text) {
  std::int64_t value = 0;
  const char* const end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, value);
  if (result.ec != std::errc() || result.ptr != end) return std::nullopt;
  return value;
}

std::string format_double(double value) {
  if (!std::isfinite(value)) return non_finite_name(value);
  char buffer[32];
  const auto result = std::to_chars(buffer, buffer + sizeof buffer, value);
  return {buffer, result.ptr};
}

std::string format_fixed(double value, int digits) {
  if (!std::isfinite(value)) return non_finite_name(value);
  char buffer[400];  // the largest double has 309 digits before the point
  const auto result =
      std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::fixed, digits);
  return {buffer, result.ptr};
}

std::string format_bytes(std::uint64_t bytes) {
  static constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  if (bytes < 1024) return concat(bytes, " B");
  auto value = static_cast<double>(bytes);
  int unit = 0;
  while (value >= 1024 && unit < 6) {
    value /= 1024;
    ++unit;
  }
  return concat(format_fixed(value, value < 10 ? 1 : 0), " ", kUnits[unit]);
}

std::optional<std::int64_t> to_bytes(std::string_view text) {
  const std::string word = to_lower(trim(text));
  double number = 0;
  const auto* end = word.data() + word.size();
  const auto [rest, error] = std::from_chars(word.data(), end, number);
  if (error != std::errc() || !std::isfinite(number) || number <= 0) return std::nullopt;
  const std::string unit = trim({rest, static_cast<std::size_t>(end - rest)});
  static constexpr std::string_view kLetters = "kmgt";
  double bytes = number;
  if (!unit.empty() && unit != "b") {
    const auto power = kLetters.find(unit[0]);
    if (power == std::string_view::npos) return std::nullopt;
    const std::string tail = unit.substr(1);
    if (!tail.empty() && tail != "b" && tail != "ib") return std::nullopt;
    bytes *= std::pow(tail == "b" ? 1000.0 : 1024.0, static_cast<double>(power + 1));
  }
  if (bytes < 1 || bytes > 0x1p62) return std::nullopt;
  return std::llround(bytes);
}

std::string format_duration(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0) return "?";
  const auto total = static_cast<long long>(std::llround(std::min(seconds, 1e15)));
  const long long hours = total / 3600, minutes = total / 60 % 60, rest = total % 60;
  char buffer[48];
  if (hours > 0) {
    std::snprintf(buffer, sizeof buffer, "%lld:%02lld:%02lld", hours, minutes, rest);
  } else {
    std::snprintf(buffer, sizeof buffer, "%lld:%02lld", minutes, rest);
  }
  return buffer;
}

std::string nearest(std::string_view word, const std::vector<std::string>& candidates) {
  constexpr std::size_t kLongest = 1000;  // a word may be as long as a file
  if (word.size() > kLongest) return "";
  // A typo changes a third of a word at most; more than that was another word.
  std::size_t best_distance = std::max<std::size_t>(word.size() / 3, 1) + 1;
  std::string best;
  for (const auto& candidate : candidates) {
    const auto [shorter, longer] = std::minmax({candidate.size(), word.size()});
    if (longer - shorter >= best_distance) continue;
    std::vector<std::size_t> row(candidate.size() + 1);
    for (std::size_t j = 0; j < row.size(); ++j) row[j] = j;
    for (std::size_t i = 1; i <= word.size(); ++i) {
      std::size_t diagonal = row[0];
      row[0] = i;
      for (std::size_t j = 1; j < row.size(); ++j) {
        const std::size_t substituted = diagonal + (word[i - 1] == candidate[j - 1] ? 0 : 1);
        diagonal = row[j];
        row[j] = std::min({substituted, row[j] + 1, row[j - 1] + 1});
      }
    }
    if (row.back() < best_distance) {
      best_distance = row.back();
      best = candidate;
    }
  }
  return best;
}

}  // namespace segmamba
