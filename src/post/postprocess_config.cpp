#include "segmamba/post/postprocess_config.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "segmamba/core/error.h"
#include "segmamba/core/text.h"
#include "segmamba/data/dataset.h"
#include "segmamba/data/regions.h"

namespace segmamba::post {
namespace {

constexpr std::string_view kBecomes = "->";

// A list of the config, and the form of its entries.
struct List {
  RuleKind kind;
  std::string key, form, example;
  const std::vector<std::string>& entries;
};

std::vector<List> lists_of(const PostprocessConfig& config) {
  return {
      {RuleKind::kFillHoles, "fill_holes", "REGION", "WT", config.fill_holes},
      {RuleKind::kRemoveBelow, "remove_below_ml", "REGION=ML", "ET=0.1", config.remove_below_ml},
      {RuleKind::kKeepLargest, "largest_only", "REGION or REGION=COUNT", "WT", config.largest_only},
      {RuleKind::kReplaceBelow, "replace_below_ml", "REGION=ML->CLASS", "ET=0.3->necrosis",
       config.replace_below_ml},
  };
}

// Regions and classes by name.
class Names {
 public:
  Names(const std::vector<std::string>& classes, const std::vector<std::string>& regions)
      : classes_(classes), regions_(data::parse_regions(regions, classes)) {}

  // Throws Error that says what is unknown.
  metrics::Region region(const std::string& name) const {
    for (const data::Region& region : regions_) {
      if (to_lower(region.name) == to_lower(name)) return {name, region.classes};
    }
    for (const metrics::Region& region : metrics::brats_regions()) {
      if (data::canonical_class(region.name) == data::canonical_class(name)) {
        return brats_region(name, region);
      }
    }
    metrics::Region region{name, {}};
    for (const std::string& part : split(name, '+')) {
      region.labels.push_back(class_index(trim(part)));
      if (region.labels.back() == 0) throw Error("the background is no region");
    }
    return region;
  }

  std::uint8_t class_index(const std::string& name) const {
    const auto canonical = data::canonical_class(name);
    for (std::size_t i = 0; i < classes_.size(); ++i) {
      if (data::canonical_class(classes_[i]) == canonical) return static_cast<std::uint8_t>(i);
    }
    const auto number = to_integer(name);
    if (number && *number >= 0 && *number < std::ssize(classes_)) {
      return static_cast<std::uint8_t>(*number);
    }
    const std::string near = nearest(name, classes_);
    throw Error(concat("there is no class '", name, "' in data.classes (", join(classes_, ", "),
                       ")", near.empty() ? "" : concat("; did you mean '", near, "'?")));
  }

 private:
  // The labels of `region` are places in BraTS's own list of classes.
  metrics::Region brats_region(const std::string& name, const metrics::Region& region) const {
    metrics::Region result{name, {}};
    for (const std::uint8_t label : region.labels) {
      result.labels.push_back(class_index(data::kBratsClasses[label]));
    }
    return result;
  }

  const std::vector<std::string>& classes_;
  std::vector<data::Region> regions_;
};

double positive_number(const std::string& text) {
  double value = 0;
  const char* end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, value);
  if (result.ec != std::errc() || result.ptr != end || !std::isfinite(value) || value <= 0) {
    throw Error(concat("'", text, "' is not a number above 0"));
  }
  return value;
}

// Throws Error that says what is wrong with the entry.
Rule parse_rule(const List& list, const std::string& entry, const Names& names) {
  const auto malformed = [&] {
    return Error(concat("not ", list.form, ", such as ", list.example));
  };
  Rule rule;
  rule.kind = list.kind;
  rule.name = concat(list.key, ": ", entry);
  std::string text = entry;
  if (const auto arrow = text.find(kBecomes); arrow != std::string::npos) {
    rule.becomes = names.class_index(trim(text.substr(arrow + kBecomes.size())));
    text.resize(arrow);
  }
  const auto equals = text.rfind('=');
  const std::string name = trim(text.substr(0, equals));
  if (name.empty()) throw malformed();
  rule.region = names.region(name);

  const bool has_value = equals != std::string::npos;
  const std::string value = has_value ? trim(text.substr(equals + 1)) : "";
  switch (list.kind) {
    case RuleKind::kFillHoles:
      if (has_value) throw malformed();
      break;
    case RuleKind::kKeepLargest:
      if (has_value) rule.count = to_integer(value).value_or(0);
      if (rule.count < 1) throw malformed();
      break;
    case RuleKind::kReplaceBelow:
      if (!rule.becomes) throw malformed();
      [[fallthrough]];
    case RuleKind::kRemoveBelow:
      if (!has_value) throw malformed();
      rule.millilitres = positive_number(value);
      break;
  }
  if (!rule.becomes) return rule;
  const auto& labels = rule.region.labels;
  const bool is_within = std::find(labels.begin(), labels.end(), *rule.becomes) != labels.end();
  if (list.kind != RuleKind::kFillHoles && is_within) {
    throw Error(concat("would change ", name, " into a class of its own"));
  }
  if (list.kind == RuleKind::kFillHoles && *rule.becomes == 0) {
    throw Error("would fill holes with the background");
  }
  return rule;
}

metrics::Connectivity parse_connectivity(std::int64_t neighbours) {
  for (const auto known : {metrics::Connectivity::kFaces, metrics::Connectivity::kEdges,
                           metrics::Connectivity::kCorners}) {
    if (neighbours == static_cast<int>(known)) return known;
  }
  throw Error(concat("postprocess.connectivity must be 6, 18 or 26, got ", neighbours));
}

struct PostprocessFile {
  PostprocessConfig postprocess;

  void visit(ConfigVisitor& v) { v.section("postprocess", "", postprocess); }
};

}  // namespace

void PostprocessConfig::visit(ConfigVisitor& v) {
  v.value({.name = "fill_holes",
           .help = "Background that a region encloses becomes the class that is most common around "
                   "it: [WT], or the class given: [ET->necrosis]. A region is WT, TC, ET, one of "
                   "data.regions, or classes, as necrosis+enhancing. The lists are applied from "
                   "here down"},
          fill_holes);
  v.value({.name = "remove_below_ml",
           .help = "Connected parts of a region below a volume are removed: [WT=0.5, ET=0.1]. What "
                   "is removed, here and below, becomes the class that is most common around it, "
                   "or the class given: [ET=0.1->background]"},
          remove_below_ml);
  v.value({.name = "largest_only",
           .help = "Of a region only the largest connected part stays, or so many of them: [WT], "
                   "[kidney=2]"},
          largest_only);
  v.value({.name = "replace_below_ml",
           .help = "A region becomes another class where all of it is below a volume: "
                   "[ET=0.3->necrosis]"},
          replace_below_ml);
  v.value({.name = "connectivity",
           .help = "Neighbours that connect a voxel: 6 (faces), 18 (and edges) or 26 (and "
                   "corners)",
           .min = 6,
           .max = 26},
          connectivity);
}

std::vector<Rule> make_rules(const PostprocessConfig& config,
                             const std::vector<std::string>& classes,
                             const std::vector<std::string>& regions) {
  const metrics::Connectivity connectivity = parse_connectivity(config.connectivity);
  const Names names(classes, regions);
  std::vector<Rule> rules;
  for (const List& list : lists_of(config)) {
    for (const std::string& entry : list.entries) {
      try {
        rules.push_back(parse_rule(list, entry, names));
      } catch (const Error& error) {
        throw Error(concat("postprocess.", list.key, ": '", entry, "': ", error.what()));
      }
      rules.back().connectivity = connectivity;
    }
  }
  return rules;
}

PostprocessConfig read_postprocess(const std::filesystem::path& path) {
  PostprocessConfig config;
  ConfigDocument::from_file(path).section("postprocess").read(config);
  return config;
}

std::string to_yaml(const PostprocessConfig& config) {
  return config_to_yaml(PostprocessFile{config});
}

}  // namespace segmamba::post
