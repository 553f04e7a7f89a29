#include "segmamba/core/json.h"

#include <array>
#include <cmath>

#include "segmamba/core/error.h"
#include "segmamba/core/files.h"
#include "segmamba/core/text.h"

namespace segmamba {
namespace {

// A value is copied and written by functions that call themselves once a level.
constexpr int kMaxDepth = 64;
// Json keeps the order of keys, and to find one takes as long as there are keys: a million of them
// would take hours.
constexpr std::size_t kMaxKeys = 20'000;

}  // namespace

Json parse_json(const std::string& text, const std::string& origin) {
  std::array<std::size_t, kMaxDepth + 1> keys{};  // of the object at each depth
  const auto check_size = [&](int depth, Json::parse_event_t event, const Json&) {
    using Event = Json::parse_event_t;
    const auto level = static_cast<std::size_t>(depth);
    if (event == Event::array_start || event == Event::object_start) {
      if (depth >= kMaxDepth) throw Error(concat(origin, ": JSON nested deeper than ", kMaxDepth));
      keys[level + 1] = 0;
    }
    if (event == Event::key && ++keys[level] > kMaxKeys) {
      throw Error(concat(origin, ": a JSON object with more than ", kMaxKeys, " keys"));
    }
    return true;
  };
  try {
    return Json::parse(text, check_size);
  } catch (const Json::exception& error) {
    // "[json.exception.parse_error.101] parse error at line 1, column 5: ..." without its tag.
    const std::string what = error.what();
    const auto tag_end = what.find("] ");
    throw Error(concat(origin, ": not valid JSON: ",
                       tag_end == std::string::npos ? what : what.substr(tag_end + 2)));
  }
}

Json read_json(const std::filesystem::path& path) {
  return parse_json(read_file(path), path.string());
}

void write_json(const std::filesystem::path& path, const Json& value) {
  // JSON is UTF-8; the name of a file need not be.
  write_file_atomically(path, value.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

Json json_number(double value) {
  if (std::isfinite(value)) return value;
  return format_double(value);
}

}  // namespace segmamba
