#include "segmamba/core/config.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <set>
#include <utility>

#include "segmamba/core/error.h"
#include "segmamba/core/files.h"
#include "segmamba/core/log.h"
#include "segmamba/core/text.h"
#include "yaml_text.h"

namespace segmamba {
namespace {

// More than any config needs; keeps a mistaken path (an image, say) from being parsed.
constexpr std::uint64_t kMaxConfigBytes = std::uint64_t{4} << 20;

std::string child_path(const std::string& path, std::string_view name) {
  return path.empty() ? std::string(name) : concat(path, ".", name);
}

// "a.b" of "a.b.c".
std::string parent(const std::string& path) {
  const auto dot = path.rfind('.');
  return dot == std::string::npos ? "" : path.substr(0, dot);
}

// Where a value came from, for messages.
struct Origins {
  std::string file;
  std::vector<std::string> bases;  // files, each the base of the one before
  // Of keys that came from a base: which one. What lies deeper in a value stands with it.
  std::map<std::string, std::size_t> base_of;
  // Path of a value set by override_value, and the text that set it.
  std::map<std::string, std::string> overrides;

  std::string place(const std::string& path, const YAML::Node& node) const {
    for (std::string part = path; !part.empty(); part = parent(part)) {
      if (const auto found = overrides.find(part); found != overrides.end()) {
        return "--set " + found->second;
      }
    }
    const int line = node.Mark().line;
    const auto& origin = file_of(path);
    return line < 0 ? origin : concat(origin, ":", line + 1);
  }

  bool is_from_base(const std::string& path) const { return file_of(path) != file; }

 private:
  const std::string& file_of(const std::string& path) const {
    for (std::string part = path; !part.empty(); part = parent(part)) {
      if (const auto found = base_of.find(part); found != base_of.end()) {
        return bases[found->second];
      }
    }
    return file;
  }
};

// Aliases can make a YAML graph deeper and far larger than its text, even endless.
constexpr int kMaxDepth = 32;
constexpr std::int64_t kMaxNodes = 1'000'000;

void refuse_duplicate_keys(const YAML::Node& node, const std::string& file, std::int64_t& nodes,
                           int depth = 0) {
  if (depth > kMaxDepth)
    throw Error(concat(file, ": nested more than ", kMaxDepth, " levels deep"));
  if (++nodes > kMaxNodes) throw Error(concat(file, ": has more than ", kMaxNodes, " values"));
  if (node.IsSequence()) {
    for (const auto& item : node) refuse_duplicate_keys(item, file, nodes, depth + 1);
  }
  if (!node.IsMap()) return;
  std::set<std::string> seen;
  for (const auto& entry : node) {
    const int line = entry.first.Mark().line + 1;
    if (!entry.first.IsScalar()) throw Error(concat(file, ":", line, ": a key must be a word"));
    if (!seen.insert(entry.first.Scalar()).second) {
      throw Error(concat(file, ":", line, ": key '", entry.first.Scalar(), "' stands twice"));
    }
    refuse_duplicate_keys(entry.second, file, nodes, depth + 1);
  }
}

void refuse_duplicate_keys(const YAML::Node& node, const std::string& file) {
  std::int64_t nodes = 0;
  refuse_duplicate_keys(node, file, nodes);
}

YAML::Node find_child(const YAML::Node& map, std::string_view name) {
  if (!map.IsMap()) return YAML::Node(YAML::NodeType::Undefined);
  for (const auto& entry : map) {
    if (entry.first.Scalar() == name) return entry.second;
  }
  return YAML::Node(YAML::NodeType::Undefined);
}

bool is_set(const YAML::Node& node) { return node.IsDefined(); }

// Quoted scalars carry the tag "!": they are strings even where they look like numbers.
bool is_plain_scalar(const YAML::Node& node) { return node.IsScalar() && node.Tag() != "!"; }

std::string shown(const YAML::Node& node) {
  if (node.IsMap()) return "a mapping";
  if (node.IsSequence()) return "a list";
  if (node.IsNull()) return "nothing";
  return "'" + node.Scalar() + "'";
}

bool parse_number(const std::string& text, std::int64_t& value) {
  const char* end = text.data() + text.size();
  const char* begin = text.data() + (starts_with(text, "+") ? 1 : 0);
  const auto result = std::from_chars(begin, end, value);
  return result.ec == std::errc() && result.ptr == end;
}

bool parse_number(const std::string& text, double& value) {
  const char* end = text.data() + text.size();
  const char* begin = text.data() + (starts_with(text, "+") ? 1 : 0);
  const auto result = std::from_chars(begin, end, value);
  return result.ec == std::errc() && result.ptr == end && std::isfinite(value);
}

std::string range_text(const ConfigKey& key) {
  const bool low = std::isfinite(key.min), high = std::isfinite(key.max);
  if (low && high) return concat("from ", format_double(key.min), " to ", format_double(key.max));
  if (low) return concat("at least ", format_double(key.min));
  if (high) return concat("at most ", format_double(key.max));
  return "";
}

bool is_within(const ConfigKey& key, double value) { return value >= key.min && value <= key.max; }

// How many items a list may have.
std::string count_text(const ConfigKey& key) {
  if (key.min_items == key.max_items) return concat(key.min_items);
  return concat(key.min_items, " or more",
                key.max_items < 1000000 ? concat(" up to ", key.max_items) : "");
}

class Reader final : public ConfigVisitor {
 public:
  Reader(const YAML::Node& root, std::string path, const Origins& origins) : origins_(origins) {
    frames_.push_back({root, std::move(path), {}, {}});
  }

  void value(const ConfigKey& key, bool& value) override { read(key, value); }
  void value(const ConfigKey& key, std::int64_t& value) override { read(key, value); }
  void value(const ConfigKey& key, double& value) override { read(key, value); }
  void value(const ConfigKey& key, std::string& value) override { read(key, value); }
  void value(const ConfigKey& key, std::vector<std::int64_t>& value) override { read(key, value); }
  void value(const ConfigKey& key, std::vector<double>& value) override { read(key, value); }
  void value(const ConfigKey& key, std::vector<std::string>& value) override { read(key, value); }
  void value(const ConfigKey& key, std::vector<std::vector<std::int64_t>>& value) override {
    read(key, value);
  }

  void unused(const std::vector<std::string>& names, const std::string& why) override {
    auto& frame = frames_.back();
    for (const auto& name : names) {
      if (std::find(frame.known.begin(), frame.known.end(), name) != frame.known.end()) continue;
      const YAML::Node node = find_child(frame.node, name);
      if (!is_set(node)) continue;
      frame.unused.push_back(name);
      const std::string path = child_path(frame.path, name);
      if (origins_.is_from_base(path)) continue;  // which is for others as well
      log_warning(concat(origins_.place(path, node), ": ", path, " ", why, ": ignored"));
    }
  }

  void finish() { refuse_unknown_keys(frames_.front()); }

 protected:
  bool begin_section(std::string_view name, std::string_view) override {
    frames_.back().known.emplace_back(name);
    const YAML::Node node = find_child(frames_.back().node, name);
    if (!is_set(node) || node.IsNull()) return false;
    const std::string path = child_path(frames_.back().path, name);
    if (!node.IsMap()) {
      throw Error(concat(origins_.place(path, node), ": ", path,
                         " must be a section with keys of its own, got ", shown(node)));
    }
    frames_.push_back({node, path, {}, {}});
    return true;
  }

  void end_section() override {
    refuse_unknown_keys(frames_.back());
    frames_.pop_back();
  }

 private:
  struct Frame {
    YAML::Node node;
    std::string path;
    std::vector<std::string> known, unused;
  };

  [[noreturn]] void fail(const ConfigKey& key, const YAML::Node& node, const std::string& wanted) {
    const std::string path = child_path(frames_.back().path, key.name);
    throw Error(
        concat(origins_.place(path, node), ": ", path, " must be ", wanted, ", got ", shown(node)));
  }

  template <class Value>
  void read(const ConfigKey& key, Value& value) {
    frames_.back().known.emplace_back(key.name);
    const YAML::Node node = find_child(frames_.back().node, key.name);
    if (is_set(node)) convert(key, node, value);
  }

  void convert(const ConfigKey& key, const YAML::Node& node, bool& value) {
    const std::string text = is_plain_scalar(node) ? node.Scalar() : "";
    if (text != "true" && text != "false") fail(key, node, "true or false");
    value = text == "true";
  }

  void convert(const ConfigKey& key, const YAML::Node& node, std::int64_t& value) {
    convert_number(key, node, value, "an integer");
  }

  void convert(const ConfigKey& key, const YAML::Node& node, double& value) {
    convert_number(key, node, value, "a number");
  }

  template <class Number>
  void convert_number(const ConfigKey& key, const YAML::Node& node, Number& value,
                      const std::string& kind) {
    const std::string range = range_text(key);
    const std::string wanted = range.empty() ? kind : kind + " " + range;
    Number number{};
    if (!is_plain_scalar(node) || !parse_number(node.Scalar(), number)) fail(key, node, wanted);
    if (!is_within(key, static_cast<double>(number))) fail(key, node, wanted);
    value = number;
  }

  void convert(const ConfigKey& key, const YAML::Node& node, std::string& value) {
    if (!node.IsScalar()) fail(key, node, "a text");
    if (!key.choices.empty()) {
      bool known = false;
      for (const auto& choice : key.choices) known = known || choice == node.Scalar();
      if (!known) fail(key, node, "one of " + join(key.choices, ", "));
    }
    value = node.Scalar();
  }

  template <class Item>
  void convert(const ConfigKey& key, const YAML::Node& node, std::vector<Item>& value) {
    if (!node.IsSequence()) fail(key, node, "a list, as in [a, b]");
    if (node.size() < key.min_items || node.size() > key.max_items) {
      const std::string path = child_path(frames_.back().path, key.name);
      throw Error(concat(origins_.place(path, node), ": ", path, " must have ", count_text(key),
                         " items, got ", node.size()));
    }
    std::vector<Item> items;
    for (const auto& item : node) {
      Item converted{};
      convert(key, item, converted);
      items.push_back(std::move(converted));
    }
    value = std::move(items);
  }

  void refuse_unknown_keys(const Frame& frame) const {
    if (!frame.node.IsMap()) return;
    for (const auto& entry : frame.node) {
      const std::string& name = entry.first.Scalar();
      const auto lists = [&name](const std::vector<std::string>& names) {
        return std::find(names.begin(), names.end(), name) != names.end();
      };
      if (lists(frame.known) || lists(frame.unused)) continue;
      const std::string path = child_path(frame.path, name);
      const std::string similar = nearest(name, frame.known);
      throw Error(concat(origins_.place(path, entry.first), ": unknown key ", path,
                         similar.empty() ? "; known here: " + join(frame.known, ", ")
                                         : "; did you mean " + similar + "?"));
    }
  }

  const Origins& origins_;
  std::vector<Frame> frames_;
};

// Plain where YAML reads it back as the same text, double-quoted otherwise.
std::string yaml_text(const std::string& text) {
  constexpr std::string_view kSafe =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./";
  const std::string word = to_lower(text);
  const bool plain = !text.empty() && text.find_first_not_of(kSafe) == std::string::npos &&
                     (std::isalpha(static_cast<unsigned char>(text[0])) != 0 || text[0] == '/') &&
                     word != "true" && word != "false" && word != "null" && word != "yes" &&
                     word != "no";
  if (plain) return text;
  YAML::Emitter emitter;
  emitter << YAML::DoubleQuoted << text;
  return emitter.c_str();
}

class Writer final : public ConfigVisitor {
 public:
  explicit Writer(bool with_help) : with_help_(with_help) {}
  const std::string& text() const { return text_; }

  void value(const ConfigKey& key, bool& value) override { line(key, value ? "true" : "false"); }
  void value(const ConfigKey& key, std::int64_t& value) override { line(key, concat(value)); }
  void value(const ConfigKey& key, double& value) override { line(key, format_double(value)); }
  void value(const ConfigKey& key, std::string& value) override { line(key, yaml_text(value)); }
  void value(const ConfigKey& key, std::vector<std::int64_t>& value) override {
    line(key, "[" + join(value, ", ") + "]");
  }
  void value(const ConfigKey& key, std::vector<double>& value) override {
    std::vector<std::string> items;
    items.reserve(value.size());
    for (const double item : value) items.push_back(format_double(item));
    line(key, "[" + join(items, ", ") + "]");
  }
  void value(const ConfigKey& key, std::vector<std::string>& value) override {
    std::vector<std::string> items;
    items.reserve(value.size());
    for (const auto& item : value) items.push_back(yaml_text(item));
    line(key, "[" + join(items, ", ") + "]");
  }
  void value(const ConfigKey& key, std::vector<std::vector<std::int64_t>>& value) override {
    std::vector<std::string> items;
    items.reserve(value.size());
    for (const auto& item : value) items.push_back("[" + join(item, ", ") + "]");
    line(key, "[" + join(items, ", ") + "]");
  }

 protected:
  bool begin_section(std::string_view name, std::string_view help) override {
    if (with_help_) {
      if (indent_.empty() && !text_.empty()) text_ += "\n";
      text_ += concat(indent_, "# ", help, "\n");
    }
    text_ += concat(indent_, name, ":\n");
    indent_ += "  ";
    return true;
  }
  void end_section() override { indent_.resize(indent_.size() - 2); }

 private:
  void line(const ConfigKey& key, const std::string& value) {
    if (with_help_) {
      std::vector<std::string> limits;
      if (!key.choices.empty()) limits.push_back("one of " + join(key.choices, ", "));
      if (const std::string range = range_text(key); !range.empty()) limits.push_back(range);
      text_ += concat(indent_, "# ", key.help,
                      limits.empty() ? "" : " (" + join(limits, "; ") + ")", "\n");
    }
    text_ += concat(indent_, key.name, ": ", value, "\n");
  }

  bool with_help_;
  std::string text_, indent_;
};

class LimitChecker final : public ConfigVisitor {
 public:
  explicit LimitChecker(std::string path) : path_(std::move(path)) {}

  void value(const ConfigKey&, bool&) override {}
  void value(const ConfigKey& key, std::int64_t& value) override { check(key, value); }
  void value(const ConfigKey& key, double& value) override { check(key, value); }
  void value(const ConfigKey& key, std::string& value) override { check(key, value); }
  void value(const ConfigKey& key, std::vector<std::int64_t>& value) override { check(key, value); }
  void value(const ConfigKey& key, std::vector<double>& value) override { check(key, value); }
  void value(const ConfigKey& key, std::vector<std::string>& value) override { check(key, value); }
  void value(const ConfigKey& key, std::vector<std::vector<std::int64_t>>& value) override {
    check(key, value);
  }

 protected:
  bool begin_section(std::string_view name, std::string_view) override {
    sections_.push_back(path_);
    path_ = child_path(path_, name);
    return true;
  }
  void end_section() override {
    path_ = sections_.back();
    sections_.pop_back();
  }

 private:
  void check(const ConfigKey& key, std::int64_t value) const {
    if (!is_within(key, static_cast<double>(value))) fail(key, range_text(key), concat(value));
  }
  void check(const ConfigKey& key, double value) const {
    if (!is_within(key, value)) fail(key, range_text(key), format_double(value));
  }
  void check(const ConfigKey& key, const std::string& value) const {
    const auto& choices = key.choices;
    if (!choices.empty() && std::find(choices.begin(), choices.end(), value) == choices.end()) {
      fail(key, "one of " + join(choices, ", "), "'" + value + "'");
    }
  }
  template <class Item>
  void check(const ConfigKey& key, const std::vector<Item>& value) const {
    if (value.size() < key.min_items || value.size() > key.max_items) {
      throw Error(concat(child_path(path_, key.name), " must have ", count_text(key),
                         " items, got ", value.size()));
    }
    for (const auto& item : value) check(key, item);
  }
  [[noreturn]] void fail(const ConfigKey& key, const std::string& wanted,
                         const std::string& got) const {
    throw Error(concat(child_path(path_, key.name), " must be ", wanted, ", got ", got));
  }

  std::string path_;
  std::vector<std::string> sections_;
};

}  // namespace

struct ConfigDocument::Impl {
  YAML::Node root;
  std::string path;  // of the section that this document is, "" for a whole file
  Origins origins;
  // What bases and overrides may add: all of them are held at once.
  std::size_t values_left = kMaxYamlValues;
};

namespace {

constexpr const char* kBase = "base";
constexpr int kMaxBases = 8;

YAML::Node load_mapping(const std::string& text, const std::string& origin,
                        std::size_t& values_left) {
  YAML::Node root = load_yaml(text, origin, values_left);
  if (root.IsNull()) root = YAML::Node(YAML::NodeType::Map);
  if (!root.IsMap()) {
    throw Error(concat(origin, ":1: a config must be a mapping of keys to values"));
  }
  refuse_duplicate_keys(root, origin);
  return root;
}

// Fills `merged`, an empty map, with `own` over `base`, the last of those in `origins`: sections
// are merged, anything else is replaced.
void merge_into(YAML::Node& merged, const YAML::Node& base, const YAML::Node& own,
                const std::string& path, Origins& origins) {
  std::map<std::string_view, YAML::Node> ours;
  for (const auto& entry : own) ours.emplace(entry.first.Scalar(), entry.second);
  for (const auto& entry : base) {
    const auto& name = entry.first.Scalar();
    const auto other = ours.find(name);
    // force_insert: to find a key takes as long as there are keys, and there is none yet.
    if (other == ours.end()) {
      origins.base_of.emplace(child_path(path, name), origins.bases.size() - 1);
      merged.force_insert(entry.first, entry.second);
    } else if (other->second.IsMap() && entry.second.IsMap()) {
      // It joins the whole while it is empty: yaml-cpp would copy the list of all nodes of both
      // files for each section else.
      YAML::Node section(YAML::NodeType::Map);
      merged.force_insert(entry.first, section);
      merge_into(section, entry.second, other->second, child_path(path, name), origins);
      ours.erase(other);
    }
  }
  for (const auto& entry : own) {
    if (ours.contains(entry.first.Scalar())) merged.force_insert(entry.first, entry.second);
  }
}

}  // namespace

ConfigDocument ConfigDocument::from_text(const std::string& text, const std::string& origin) {
  ConfigDocument document;
  document.impl_ = std::make_shared<Impl>();
  document.impl_->origins.file = origin;
  document.impl_->root = load_mapping(text, origin, document.impl_->values_left);
  return document;
}

ConfigDocument ConfigDocument::from_file(const std::filesystem::path& path) {
  auto document = from_text(read_file(path, kMaxConfigBytes), path.string());
  auto folder = path.parent_path();
  for (int depth = 0; document.has(kBase); ++depth) {
    auto& own = *document.impl_;
    const auto node = find_child(own.root, kBase);
    const auto place = own.origins.place(kBase, node);
    if (!node.IsScalar()) throw Error(concat(place, ": base must be the path of a file"));
    if (depth == kMaxBases) {
      throw Error(concat(place, ": more than ", kMaxBases, " bases one upon another"));
    }
    const auto base_path = folder / node.Scalar();
    own.root.remove(kBase);
    std::string text;
    try {
      text = read_file(base_path, kMaxConfigBytes);
    } catch (const Error& error) {
      throw Error(concat(place, ": base: ", error.what()));
    }
    const auto base = load_mapping(text, base_path.string(), own.values_left);
    own.origins.base_of.erase(kBase);
    own.origins.bases.push_back(base_path.string());
    YAML::Node merged(YAML::NodeType::Map);
    merge_into(merged, base, own.root, "", own.origins);
    own.root = merged;
    folder = base_path.parent_path();
  }
  return document;
}

bool ConfigDocument::has(const std::string& name) const {
  return is_set(find_child(impl_->root, name));
}

std::vector<std::string> ConfigDocument::keys() const {
  std::vector<std::string> names;
  for (const auto& item : impl_->root) names.push_back(item.first.as<std::string>());
  return names;
}

ConfigDocument ConfigDocument::section(const std::string& name) const {
  const YAML::Node node = find_child(impl_->root, name);
  if (!is_set(node)) throw Error(concat(impl_->origins.file, ": there is no section ", name));
  ConfigDocument document;
  document.impl_ = std::make_shared<Impl>();
  document.impl_->path = child_path(impl_->path, name);
  document.impl_->origins = impl_->origins;
  document.impl_->values_left = impl_->values_left;
  if (!node.IsMap()) {
    throw Error(concat(impl_->origins.place(document.impl_->path, node), ": ", document.impl_->path,
                       " must be a section with keys of its own"));
  }
  document.impl_->root = node;
  return document;
}

void ConfigDocument::override_value(const std::string& assignment) {
  const auto equals = assignment.find('=');
  const std::string path = trim(assignment.substr(0, equals));
  if (equals == std::string::npos || path.empty()) {
    throw UsageError(concat("--set ", assignment,
                            ": expected KEY=VALUE, as in "
                            "--set optimizer.learning_rate=0.01"));
  }
  const std::string text = assignment.substr(equals + 1);
  const YAML::Node value = trim(text).empty()
                               ? YAML::Node(std::string())
                               : load_yaml(text, "--set " + assignment, impl_->values_left);
  refuse_duplicate_keys(value, "--set " + assignment);
  const auto names = segmamba::split(path, '.');
  YAML::Node node = impl_->root;
  for (std::size_t i = 0; i + 1 < names.size(); ++i) {
    YAML::Node child = find_child(node, names[i]);
    if (!is_set(child) || child.IsNull()) {
      child = YAML::Node(YAML::NodeType::Map);
      node[names[i]] = child;
    } else if (!child.IsMap()) {
      throw UsageError(concat("--set ", assignment, ": ", names[i], " is not a section"));
    }
    node.reset(child);
  }
  node[names.back()] = value;
  impl_->origins.overrides[path] = assignment;
}

std::unique_ptr<ConfigVisitor> ConfigDocument::reader() const {
  return std::make_unique<Reader>(impl_->root, impl_->path, impl_->origins);
}

void ConfigDocument::finish(ConfigVisitor& visitor) { dynamic_cast<Reader&>(visitor).finish(); }

std::unique_ptr<ConfigVisitor> make_config_writer(bool with_help) {
  return std::make_unique<Writer>(with_help);
}

std::unique_ptr<ConfigVisitor> make_limit_checker(const std::string& path) {
  return std::make_unique<LimitChecker>(path);
}

std::string write_config(ConfigVisitor& writer) { return dynamic_cast<Writer&>(writer).text(); }

}  // namespace segmamba
