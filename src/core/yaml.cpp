#include "segmamba/core/yaml.h"

#include "segmamba/core/error.h"
#include "segmamba/core/text.h"
#include "yaml_text.h"

namespace segmamba {
namespace {

// Aliases can make a YAML graph deeper and far larger than its text, even endless.
constexpr int kMaxDepth = 8;
constexpr std::size_t kMaxValues = 10'000;

class Lister {
 public:
  explicit Lister(const std::string& origin) : origin_(origin) {}

  void add(const std::string& path, const YAML::Node& node, int depth = 0) {
    if (!node.IsMap()) {
      values_.emplace_back(path, text_of(node, depth));
      return;
    }
    refuse_excess(node, depth);
    for (const auto& entry : node) {
      if (!entry.first.IsScalar()) fail(entry.first, "a key must be a word");
      const auto& name = entry.first.Scalar();
      add(path.empty() ? name : concat(path, ".", name), entry.second, depth + 1);
    }
  }
  std::vector<std::pair<std::string, std::string>> take() { return std::move(values_); }

 private:
  [[noreturn]] void fail(const YAML::Node& node, const std::string& what) const {
    throw Error(concat(origin_, ":", node.Mark().line + 1, ": ", what));
  }
  void refuse_excess(const YAML::Node& node, int depth) {
    if (depth > kMaxDepth) fail(node, concat("nested more than ", kMaxDepth, " levels deep"));
    if (++count_ > kMaxValues) fail(node, concat("has more than ", kMaxValues, " values"));
  }
  std::string text_of(const YAML::Node& node, int depth) {
    refuse_excess(node, depth);
    if (node.IsScalar()) return node.Scalar();
    if (node.IsMap()) fail(node, "a mapping within a list");
    std::vector<std::string> items;
    for (const auto& item : node) items.push_back(text_of(item, depth + 1));
    return node.IsSequence() ? concat("[", join(items, ", "), "]") : "";
  }

  std::string origin_;
  std::vector<std::pair<std::string, std::string>> values_;
  std::size_t count_ = 0;
};

}  // namespace

std::vector<std::pair<std::string, std::string>> yaml_values(const std::string& text,
                                                             const std::string& origin) {
  const YAML::Node root = load_yaml(text, origin);
  if (root.IsNull()) return {};
  if (!root.IsMap()) throw Error(concat(origin, ":1: must be a mapping of keys to values"));
  Lister lister(origin);
  lister.add("", root);
  return lister.take();
}

}  // namespace segmamba
