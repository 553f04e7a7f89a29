#include "segmamba/eval/options.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <set>

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

std::vector<metrics::Region> parse_regions(const std::vector<std::string>& lists) {
  std::vector<metrics::Region> regions;
  for (const std::string& text : split_lists(lists)) regions.push_back(parse_region(text));
  if (regions.empty()) return metrics::brats_regions();
  refuse_doubles(regions, "regions");
  return regions;
}

LabelFour parse_label_four(const std::string& text) {
  if (text == "auto") return LabelFour::kAuto;
  if (text == "et") return LabelFour::kEnhancing;
  if (text == "keep") return LabelFour::kKeep;
  throw UsageError(concat("--label-4: expected auto, et or keep, got '", text, "'"));
}

}  // namespace segmamba::eval
