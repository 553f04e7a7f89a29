#pragma once
// Small helpers on strings.

#include <cstdint>
#include <locale>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

namespace segmamba {

// concat("size ", 3, " of ", path): what operator<< prints for each argument, joined; numbers as in
// C++ whatever the program's locale.
template <class... Args>
std::string concat(const Args&... args) {
  std::ostringstream stream;
  stream.exceptions(std::ios::badbit);  // else it cuts the text where there is no memory
  stream.imbue(std::locale::classic());
  (stream << ... << args);
  return stream.str();
}

// join({1, 2, 3}, "x") is "1x2x3".
template <class Range>
std::string join(const Range& range, std::string_view separator) {
  std::ostringstream stream;
  stream.exceptions(std::ios::badbit);
  stream.imbue(std::locale::classic());
  bool first = true;
  for (const auto& item : range) {
    if (!first) stream << separator;
    stream << item;
    first = false;
  }
  return stream.str();
}

std::vector<std::string> split(std::string_view text, char separator);
std::string trim(std::string_view text);
std::string to_lower(std::string_view text);
// Text of a file that cannot be trusted, fit for one line of a terminal or a log: control
// characters become "?", and "..." stands for what is beyond `max_bytes`.
std::string printable(std::string text, std::size_t max_bytes = 1000);
bool starts_with(std::string_view text, std::string_view prefix);
bool ends_with(std::string_view text, std::string_view suffix);

// A whole number in decimal digits, with nothing before or behind it; nothing else is one.
std::optional<std::int64_t> to_integer(std::string_view text);

// The shortest decimal text that reads back as the same double; "nan", "inf", "-inf".
std::string format_double(double value);
// `digits` digits after the point: format_fixed(0.5, 3) is "0.500"; "nan", "inf" as above.
std::string format_fixed(double value, int digits);
// 1536 is "1.5 KiB".
std::string format_bytes(std::uint64_t bytes);
// "6GB", "1.5 GiB", "512M", "4096" as a number of bytes above 0; KB, MB, GB, TB are powers of 1000,
// K and KiB of 1024, and so on. Nothing else is one.
std::optional<std::int64_t> to_bytes(std::string_view text);
// 95 is "1:35", 3700 is "1:01:40".
std::string format_duration(double seconds);

// The candidate nearest to `word` by edit distance, or "" where none is near enough to be meant.
std::string nearest(std::string_view word, const std::vector<std::string>& candidates);

}  // namespace segmamba
