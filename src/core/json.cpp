#include "segmamba/core/json.h"

#include <cmath>
#include <vector>

#include "segmamba/core/error.h"
#include "segmamba/core/files.h"
#include "segmamba/core/json_watcher.h"
#include "segmamba/core/text.h"

namespace segmamba {
namespace {

// A value is copied and written by functions that call themselves once a level.
constexpr std::size_t kMaxDepth = 64;
// Json keeps the order of keys, and to find one takes as long as there are keys: a million of them
// would take hours.
constexpr std::size_t kMaxKeys = 20'000;

class Bounds final : public JsonWatcher<Json> {
 public:
  explicit Bounds(const std::string& origin) : origin_(origin) {}

 private:
  void on_begin(bool) override {
    if (keys_.size() == kMaxDepth) {
      throw Error(concat(origin_, ": JSON nested deeper than ", kMaxDepth));
    }
    keys_.push_back(0);
  }
  void on_end(bool) override { keys_.pop_back(); }
  void on_key(const std::string&) override {
    if (++keys_.back() > kMaxKeys) {
      throw Error(concat(origin_, ": a JSON object with more than ", kMaxKeys, " keys"));
    }
  }

  const std::string& origin_;
  std::vector<std::size_t> keys_;  // of each object and array that is open
};

}  // namespace

Json parse_json(const std::string& text, const std::string& origin) {
  Bounds(origin).watch(text);
  try {
    return Json::parse(text);
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

std::string json_text(const Json& value, int indent) {
  return value.dump(indent, ' ', false, Json::error_handler_t::replace);
}

std::string utf8_text(const std::string& text) {
  return Json::parse(json_text(text)).get<std::string>();
}

void write_json(const std::filesystem::path& path, const Json& value) {
  write_file_atomically(path, json_text(value, 2) + "\n");
}

Json json_number(double value) {
  if (std::isfinite(value)) return value;
  return format_double(value);
}

}  // namespace segmamba
