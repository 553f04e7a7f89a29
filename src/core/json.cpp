#include "segmamba/core/json.h"

#include <cmath>

#include "segmamba/core/error.h"
#include "segmamba/core/files.h"
#include "segmamba/core/text.h"

namespace segmamba {
namespace {

// A value is copied and written by functions that call themselves once a level.
constexpr int kMaxDepth = 64;

}  // namespace

Json parse_json(const std::string& text, const std::string& origin) {
  const auto check_depth = [&origin](int depth, Json::parse_event_t event, const Json&) {
    using Event = Json::parse_event_t;
    if (depth >= kMaxDepth && (event == Event::array_start || event == Event::object_start)) {
      throw Error(concat(origin, ": JSON nested deeper than ", kMaxDepth));
    }
    return true;
  };
  try {
    return Json::parse(text, check_depth);
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
