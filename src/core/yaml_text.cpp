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
constexpr std::size_t kBytesOfAName = 16;

// Goes through a text without keeping anything of it.
class SizeCheck final : public YAML::EventHandler {
 public:
  // `beside` says of what else there are values.
  SizeCheck(const std::string& origin, std::size_t most_values, const char* beside)
      : origin_(origin), most_values_(most_values), beside_(beside) {}

  std::size_t values() const { return values_; }

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
    throw Error(
        concat(origin_, ":", mark.line + 1, ": has more than ", most_values_, " values", beside_));
  }
  void descend(const YAML::Mark& mark) {
    count(mark);
    if (++depth_ <= kMaxDepth) return;
    throw Error(
        concat(origin_, ":", mark.line + 1, ": nested more than ", kMaxDepth, " levels deep"));
  }

  const std::string& origin_;
  const std::size_t most_values_;
  const char* const beside_;
  std::size_t values_ = 0;
  int depth_ = 0;
};

}  // namespace

YAML::Node load_yaml(const std::string& text, const std::string& origin) {
  auto values_left = kMaxYamlValues;
  return load_yaml(text, origin, values_left);
}

YAML::Node load_yaml(const std::string& text, const std::string& origin, std::size_t& values_left) {
  // yaml-cpp keeps the brackets of a line, some hundred bytes each, until it knows what they open.
  const auto brackets = std::count_if(text.begin(), text.end(),
                                      [](char letter) { return letter == '[' || letter == '{'; });
  const auto of_length = text.size() / kBytesOfAName;
  const auto most = values_left + of_length;
  const auto* const beside =
      values_left < kMaxYamlValues ? " beside those of the rest of the config" : "";
  if (static_cast<std::size_t>(brackets) > most) {
    throw Error(concat(origin, ": has more than ", most, " values", beside));
  }
  try {
    std::istringstream stream(text);
    YAML::Parser parser(stream);
    SizeCheck check(origin, most, beside);
    parser.HandleNextDocument(check);
    values_left -= check.values() - std::min(check.values(), of_length);
    return YAML::Load(text);
  } catch (const YAML::Exception& error) {
    throw Error(concat(origin, ":", error.mark.line + 1, ": not valid YAML: ", error.msg));
  }
}

}  // namespace segmamba
