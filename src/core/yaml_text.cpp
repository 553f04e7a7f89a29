#include "yaml_text.h"

#include <yaml-cpp/eventhandler.h>

#include <algorithm>
#include <sstream>

#include "segmamba/core/error.h"
#include "segmamba/core/text.h"

namespace segmamba {
namespace {

constexpr int kMaxDepth = 64;

// Names of cases take 16 bytes a value and more: a list of them may have any length.
std::size_t most_values(const std::string& text) { return 100'000 + text.size() / 16; }

// Goes through a text without keeping anything of it.
class SizeCheck final : public YAML::EventHandler {
 public:
  SizeCheck(const std::string& origin, std::size_t most_values)
      : origin_(origin), most_values_(most_values) {}

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t) override { count(mark); }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override { count(mark); }
  void OnScalar(const YAML::Mark& mark, const std::string&, YAML::anchor_t,
                const std::string&) override {
    count(mark);
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {
    descend(mark);
  }
  void OnSequenceEnd() override { --depth_; }
  void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t,
                  YAML::EmitterStyle::value) override {
    descend(mark);
  }
  void OnMapEnd() override { --depth_; }

 private:
  void count(const YAML::Mark& mark) {
    if (++values_ <= most_values_) return;
    throw Error(concat(origin_, ":", mark.line + 1, ": has more than ", most_values_, " values"));
  }
  void descend(const YAML::Mark& mark) {
    count(mark);
    if (++depth_ <= kMaxDepth) return;
    throw Error(
        concat(origin_, ":", mark.line + 1, ": nested more than ", kMaxDepth, " levels deep"));
  }

  const std::string& origin_;
  const std::size_t most_values_;
  std::size_t values_ = 0;
  int depth_ = 0;
};

}  // namespace

YAML::Node load_yaml(const std::string& text, const std::string& origin) {
  // yaml-cpp keeps the brackets of a line, some hundred bytes each, until it knows what they open.
  const auto brackets = std::count_if(text.begin(), text.end(),
                                      [](char letter) { return letter == '[' || letter == '{'; });
  const auto most = most_values(text);
  if (static_cast<std::size_t>(brackets) > most) {
    throw Error(concat(origin, ": has more than ", most, " values"));
  }
  try {
    std::istringstream stream(text);
    YAML::Parser parser(stream);
    SizeCheck check(origin, most);
    parser.HandleNextDocument(check);
    return YAML::Load(text);
  } catch (const YAML::Exception& error) {
    throw Error(concat(origin, ":", error.mark.line + 1, ": not valid YAML: ", error.msg));
  }
}

}  // namespace segmamba
