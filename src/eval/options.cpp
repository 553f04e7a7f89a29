#include "segmamba/eval/options.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <set>

#include "segmamba/core/config.h"
#include "segmamba/core/error.h"
#include "segmamba/core/text.h"

namespace segmamba::eval {
namespace {

metrics::Region parse_region(const std::string& text) {
  const std::size_t equals = text.find('=');
  if (equals == std::string::npos) {
    for (const auto* list : {&metrics::brats_regions(), &metrics::brats_tissues()}) {
      for (const metrics::Region& region : *list) {
        if (region.name == text) return region;
      }
    }
    throw UsageError(concat("there is no region '", text,
                            "': give WT, TC, ET, NETC, SNFH, RC or NAME=LABEL+LABEL"));
  }
  metrics::Region region{text.substr(0, equals), {}};
  for (const std::string& label : split(std::string_view(text).substr(equals + 1), '+')) {
    unsigned value = 0;
    const auto [end, error] = std::from_chars(label.data(), label.data() + label.size(), value);
    if (error != std::errc() || end != label.data() + label.size() || value < 1 || value > 255) {
      throw UsageError(concat("region '", text, "': '", label, "' is not a label of 1 to 255"));
    }
    region.labels.push_back(static_cast<std::uint8_t>(value));
  }
  if (region.name.empty()) throw UsageError(concat("region '", text, "' has no name"));
  return region;
}

bool is_yaml(const std::string& text) {
  return ends_with(text, ".yaml") || ends_with(text, ".yml");
}

constexpr double kLargestLabel = 255;
constexpr std::size_t kMostRegions = 1000;

// The section `regions` of a file, whose keys are the regions' names.
struct RegionTable {
  std::vector<std::string> names;
  std::vector<std::pair<std::string, std::vector<std::int64_t>>> labels;

  void visit(ConfigVisitor& v) {
    for (const std::string& name : names) {
      std::vector<std::int64_t> list;
      v.value({.name = name,
               .help = "Labels scored as one mask",
               .min = 1,
               .max = kLargestLabel,
               .min_items = 1},
              list);
      labels.emplace_back(name, std::move(list));
    }
  }
};

struct RegionFile {
  RegionTable& regions;
  std::vector<std::int64_t> labels;

  void visit(ConfigVisitor& v) {
    v.section("regions", "Regions by name", regions);
    v.value({.name = "labels",
             .help = "Labels that may occur beside 0",
             .min = 1,
             .max = kLargestLabel},
            labels);
  }
};

template <class List>
void refuse_doubles(const List& list, const std::string& what) {
  std::set<std::string> names;
  for (const auto& item : list) {
    if (!names.insert(item.name).second) {
      throw UsageError(concat("two ", what, " have the name '", item.name, "'"));
    }
  }
}

}  // namespace

std::vector<std::string> split_lists(const std::vector<std::string>& lists) {
  std::vector<std::string> items;
  for (const std::string& list : lists) {
    for (const std::string& item : split(list, ',')) {
      const std::string trimmed = trim(item);
      if (!trimmed.empty()) items.push_back(trimmed);
    }
  }
  return items;
}

std::string convention_names() {
  std::vector<std::string> names;
  for (const auto& convention : metrics::conventions()) names.push_back(convention.name);
  return join(names, ", ");
}

std::vector<metrics::Convention> parse_conventions(const std::vector<std::string>& lists) {
  std::vector<std::string> names = split_lists(lists);
  if (names.empty()) names = {"segmamba"};
  if (names == std::vector<std::string>{"all"}) return metrics::conventions();
  std::vector<metrics::Convention> conventions;
  conventions.reserve(names.size());
  for (const std::string& name : names) conventions.push_back(metrics::find_convention(name));
  refuse_doubles(conventions, "conventions");
  return conventions;
}

std::vector<Method> parse_methods(const std::vector<std::string>& texts) {
  std::vector<Method> methods;
  for (const std::string& text : texts) {
    const std::size_t equals = text.find('=');
    // A folder whose own name holds '=' is taken as it is.
    if (equals == std::string::npos || equals == 0 || std::filesystem::exists(text)) {
      std::string name = "prediction";
      if (texts.size() > 1) {
        // "runs/a/" has an empty filename.
        const std::filesystem::path path = (std::filesystem::path(text) / "").parent_path();
        name = path.filename().string();
      }
      methods.push_back({name, text});
    } else {
      methods.push_back({text.substr(0, equals), text.substr(equals + 1)});
    }
  }
  refuse_doubles(methods, "methods");
  return methods;
}

RegionSet parse_regions(const std::vector<std::string>& lists) {
  const std::vector<std::string> texts = split_lists(lists);
  RegionSet set;
  if (texts.empty()) return set;
  if (texts == std::vector<std::string>{"labels"}) {
    set.each_label = true;
    return set;
  }
  if (texts.size() == 1 && is_yaml(texts[0])) return read_regions(texts[0]);
  set.regions.clear();
  for (const std::string& text : texts) {
    if (text == "labels" || is_yaml(text)) {
      throw UsageError(concat("--regions: '", text, "' stands alone, without other regions"));
    }
    set.regions.push_back(parse_region(text));
    if (text.find('=') != std::string::npos) set.known_labels.clear();  // no label map to check by
  }
  refuse_doubles(set.regions, "regions");
  return set;
}

RegionSet read_regions(const std::filesystem::path& path) {
  const auto document = ConfigDocument::from_file(path);
  RegionSet set;
  set.regions.clear();
  set.known_labels.clear();
  if (document.has("regions")) {
    RegionTable table{document.section("regions").keys(), {}};
    if (table.names.size() > kMostRegions) {
      throw Error(concat(path.string(), ": has more than ", kMostRegions, " regions"));
    }
    RegionFile file{table, {}};
    document.read(file);
    for (const auto& [name, labels] : table.labels) {
      set.regions.push_back({name, {labels.begin(), labels.end()}});
    }
    set.known_labels.assign(file.labels.begin(), file.labels.end());
  }
  if (set.regions.empty()) {
    throw Error(concat(path.string(),
                       ": no regions; expected e.g. `regions: {liver: [1, 2], tumour: [2]}`"));
  }
  if (set.known_labels.empty()) return set;
  for (const metrics::Region& region : set.regions) {
    for (const std::uint8_t label : region.labels) {
      const auto& known = set.known_labels;
      if (std::find(known.begin(), known.end(), label) != known.end()) continue;
      throw Error(concat(path.string(), ": region ", region.name, " has label ", int{label},
                         ", which `labels` lacks"));
    }
  }
  return set;
}

std::vector<std::string> parse_metrics(const std::vector<std::string>& lists,
                                       std::vector<metrics::Convention>& conventions) {
  std::vector<std::string> names = split_lists(lists);
  const bool all = names == std::vector<std::string>{"all"};
  if (all) names = metrics::general_metrics();
  const auto has = [](const metrics::Convention& convention, const std::string& name) {
    return std::any_of(convention.metrics.begin(), convention.metrics.end(),
                       [&](const metrics::MetricRule& rule) { return rule.name == name; });
  };
  const std::vector<metrics::Convention> tools = conventions;
  for (metrics::Convention& convention : conventions) {
    std::vector<std::string> wanted;
    for (const std::string& name : names) {
      // A metric that only some tool has stays with that tool.
      const bool is_of_some_tool =
          std::any_of(tools.begin(), tools.end(),
                      [&](const metrics::Convention& tool) { return has(tool, name); });
      const auto& general = metrics::general_metrics();
      const bool is_general = std::find(general.begin(), general.end(), name) != general.end();
      if (is_general || !is_of_some_tool) wanted.push_back(name);
    }
    convention = metrics::with_metrics(convention, wanted);
  }
  return all ? std::vector<std::string>{} : names;
}

LabelFour parse_label_four(const std::string& text) {
  if (text == "auto") return LabelFour::kAuto;
  if (text == "et") return LabelFour::kEnhancing;
  if (text == "keep") return LabelFour::kKeep;
  throw UsageError(concat("--label-4: expected auto, et or keep, got '", text, "'"));
}

}  // namespace segmamba::eval
