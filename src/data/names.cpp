#include "names.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <map>
#include <numeric>
#include <set>

#include "segmamba/core/error.h"
#include "segmamba/core/text.h"

namespace segmamba::data {
namespace {

// In one pass: a name may be as long as a file.
void replace_all(std::string& text, std::string_view from, std::string_view to) {
  std::size_t at = text.find(from);
  if (at == std::string::npos) return;
  std::string replaced;
  std::size_t done = 0;
  for (; at != std::string::npos; at = text.find(from, done)) {
    replaced.append(text, done, at - done).append(to);
    done = at + from.size();
  }
  text = replaced.append(text, done);
}

// What does not tell names apart: case, blanks, hyphens, underscores, British or American spelling.
std::string plain(const std::string& name) {
  std::string text = to_lower(name);
  std::erase_if(text, [](char c) { return c == ' ' || c == '-' || c == '_' || c == '\t'; });
  replace_all(text, "tumour", "tumor");
  replace_all(text, "oedema", "edema");
  return text;
}

using Aliases = std::map<std::string, std::string>;

const Aliases& channel_aliases() {
  static const Aliases aliases = {
      {"t1", "t1n"},  {"t1w", "t1n"},   {"t1n", "t1n"},    {"t1ce", "t1c"}, {"t1gd", "t1c"},
      {"t1c", "t1c"}, {"t1wce", "t1c"}, {"t1cew", "t1c"},  {"t2", "t2w"},   {"t2w", "t2w"},
      {"t2f", "t2f"}, {"flair", "t2f"}, {"t2flair", "t2f"}};
  return aliases;
}

const Aliases& class_aliases() {
  static const Aliases aliases = {{"background", "background"},
                                  {"bg", "background"},
                                  {"ncr", "necrosis"},
                                  {"net", "necrosis"},
                                  {"netc", "necrosis"},
                                  {"ncr/net", "necrosis"},
                                  {"nonenhancing", "necrosis"},
                                  {"ed", "oedema"},
                                  {"edema", "oedema"},
                                  {"snfh", "oedema"},
                                  {"peritumoraledema", "oedema"},
                                  {"et", "enhancing"},
                                  {"enhancing", "enhancing"},
                                  {"enhancingtumor", "enhancing"},
                                  {"gdenhancingtumor", "enhancing"},
                                  {"rc", "resection cavity"},
                                  {"resectioncavity", "resection cavity"},
                                  {"wt", "whole tumour"},
                                  {"wholetumor", "whole tumour"},
                                  {"tc", "tumour core"},
                                  {"tumorcore", "tumour core"}};
  return aliases;
}

// "necrotic and non-enhancing tumor core (NCR/NET)"
constexpr std::string_view kNecrosisBeginnings[] = {"necro", "nonenhancingtumor"};

const std::vector<std::string>& brats_values() {
  static const std::vector<std::string> names = {"background", "necrosis", "oedema", "enhancing",
                                                 "resection cavity"};
  return names;
}

// As an item of a YAML list.
std::string yaml_item(const std::string& name) {
  constexpr std::string_view kPlain = " +./()_-";
  const auto is_plain = [&](unsigned char c) {
    return std::isalnum(c) != 0 || kPlain.find(static_cast<char>(c)) != std::string_view::npos;
  };
  const bool starts_plain = !name.empty() && std::isalpha(static_cast<unsigned char>(name[0])) != 0;
  if (starts_plain && std::all_of(name.begin(), name.end(), is_plain)) return name;
  std::string quoted = name;
  replace_all(quoted, "\\", "\\\\");
  replace_all(quoted, "\"", "\\\"");
  return concat("\"", quoted, "\"");
}

bool parse_byte(const std::string& text, std::uint8_t& value) {
  const char* end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, value);
  return result.ec == std::errc() && result.ptr == end;
}

void refuse_doubled(const std::vector<std::string>& names, const std::string& key,
                    std::string (*canonical)(const std::string&)) {
  std::map<std::string, std::string> seen;
  for (const auto& name : names) {
    const auto [first, is_new] = seen.emplace(canonical(name), name);
    if (is_new) continue;
    throw Error(concat(key, ": '", first->second, "' and '", name, "' are the same"));
  }
}

}  // namespace

std::string canonical_channel(const std::string& name) {
  std::string text = plain(name);
  const auto found = channel_aliases().find(text);
  return found == channel_aliases().end() ? text : found->second;
}

std::vector<std::size_t> viewing_order(const std::vector<std::string>& channels) {
  std::vector<std::size_t> order(channels.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  const auto rank = [&](std::size_t place) {
    const std::string name = canonical_channel(channels[place]);
    return name == "t1c" ? 0 : name == "t2f" ? 1 : 2;
  };
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return rank(a) < rank(b); });
  return order;
}

std::string canonical_class(const std::string& name) {
  std::string text = plain(name);
  const auto found = class_aliases().find(text);
  if (found != class_aliases().end()) return found->second;
  for (const auto& beginning : kNecrosisBeginnings) {
    if (starts_with(text, beginning)) return "necrosis";
  }
  return text;
}

std::size_t find_class(const std::vector<std::string>& classes, const std::string& name) {
  const auto wanted = canonical_class(name);
  return static_cast<std::size_t>(
      std::find_if(classes.begin(), classes.end(),
                   [&](const auto& item) { return canonical_class(item) == wanted; }) -
      classes.begin());
}

std::string config_line(const std::string& key, const std::vector<std::string>& names) {
  std::vector<std::string> items;
  items.reserve(names.size());
  for (const auto& name : names) items.push_back(yaml_item(name));
  return concat(key, ": [", join(items, ", "), "]");
}

std::vector<std::size_t> match_channels(const std::vector<std::string>& wanted,
                                        const std::vector<std::string>& available,
                                        const std::string& origin) {
  std::vector<std::size_t> places;
  for (const auto& name : wanted) {
    std::vector<std::size_t> same;
    for (std::size_t place = 0; place < available.size(); ++place) {
      if (canonical_channel(available[place]) == canonical_channel(name)) same.push_back(place);
    }
    if (same.empty()) {
      throw Error(concat(origin, ": has no channel '", name,
                         "'; for the channels it has, put into ",
                         "the config: ", config_line("data.channels", available)));
    }
    if (same.size() > 1) {
      throw Error(concat(origin, ": both '", available[same[0]], "' and '", available[same[1]],
                         "' may be the channel '", name, "'"));
    }
    places.push_back(same.front());
  }
  return places;
}

void check_names(const DatasetConfig& config) {
  refuse_doubled(config.channels, "data.channels", canonical_channel);
  refuse_doubled(config.classes, "data.classes", canonical_class);
  if (config.classes.size() > ClassMap::kNone) {
    throw Error(
        concat("data.classes: lists ", config.classes.size(), " classes; 255 are possible"));
  }
  if (!config.classes.empty() && canonical_class(config.classes.front()) != "background") {
    throw Error(concat("data.classes: the first class must be background, not '",
                       config.classes.front(), "'"));
  }
}

std::vector<MappedValue> parse_label_map(const DatasetConfig& config) {
  std::vector<MappedValue> mapped;
  for (const auto& entry : config.label_map) {
    const auto fail = [&](const std::string& what) {
      throw Error(concat("data.label_map: '", entry, "' ", what));
    };
    const std::size_t equals = entry.find('=');
    MappedValue item;
    if (equals == std::string::npos || !parse_byte(trim(entry.substr(0, equals)), item.value)) {
      fail("is not VALUE=CLASS with a value from 0 to 255, such as 4=enhancing");
    }
    const std::string name = trim(entry.substr(equals + 1));
    const std::size_t place = find_class(config.classes, name);
    if (place < config.classes.size()) {
      item.class_index = static_cast<std::uint8_t>(place);
    } else if (!parse_byte(name, item.class_index) || item.class_index >= config.classes.size()) {
      const std::string near = nearest(name, config.classes);
      fail(concat("names no class", near.empty() ? "" : concat(" (did you mean '", near, "'?)"),
                  "; there are ", join(config.classes, ", "), ", or 0 to ",
                  std::ssize(config.classes) - 1));
    }
    mapped.push_back(item);
  }
  return mapped;
}

ClassMap match_classes(const std::vector<std::string>& classes,
                       const std::vector<NamedValue>& labels,
                       const std::vector<MappedValue>& mapped, const std::string& origin) {
  ClassMap map;
  if (classes.empty()) return map;
  std::vector<std::string> names;  // of the data set, background first
  std::set<std::size_t> found;
  std::string unknown;
  if (std::none_of(labels.begin(), labels.end(),
                   [](const auto& label) { return canonical_class(label.name) == "background"; })) {
    names.push_back("background");
  }
  for (const auto& [value, name] : labels) {
    if (std::find(names.begin(), names.end(), name) == names.end()) {
      const bool is_background = canonical_class(name) == "background";
      names.insert(is_background ? names.begin() : names.end(), name);
    }
    const std::size_t place = find_class(classes, name);
    if (place < classes.size()) {
      map.set(value, static_cast<std::uint8_t>(place));
      found.insert(place);
    } else if (std::none_of(mapped.begin(), mapped.end(), [value = value](const MappedValue& item) {
                 return item.value == value;
               })) {
      unknown = concat("'", name, "' (value ", int{value}, ") is not among data.classes");
    }
  }
  for (const auto& item : mapped) {
    map.set(item.value, item.class_index);
    found.insert(item.class_index);
  }
  found.insert(0);
  if (map[0] == ClassMap::kNone) map.set(0, 0);
  for (std::size_t place = 0; place < classes.size() && unknown.empty(); ++place) {
    if (!found.contains(place)) unknown = concat("has no label '", classes[place], "'");
  }
  if (!unknown.empty()) {
    throw Error(concat(origin, ": ", unknown, "; for the classes it has, put into the config: ",
                       config_line("data.classes", names),
                       " (or say what a value is by data.label_map: [VALUE=CLASS])"));
  }
  return map;
}

ClassMap assume_classes(const std::vector<std::string>& classes,
                        const std::vector<MappedValue>& mapped) {
  ClassMap map;
  std::vector<std::size_t> values;  // of BraTS, a class each
  bool is_brats = true;
  for (const auto& name : classes) {
    values.push_back(find_class(brats_values(), name));
    is_brats = is_brats && values.back() < brats_values().size();
  }
  for (std::size_t place = 0; place < classes.size(); ++place) {
    map.set(static_cast<std::uint8_t>(is_brats ? values[place] : place),
            static_cast<std::uint8_t>(place));
  }
  const auto place_of = [&](std::size_t value) {
    return static_cast<std::size_t>(std::find(values.begin(), values.end(), value) -
                                    values.begin());
  };
  constexpr std::size_t kOldEnhancing = 4;  // BraTS 2012 to 2021
  const bool has_all = is_brats && place_of(kNecrosis) < values.size() &&
                       place_of(kOedema) < values.size() && place_of(kEnhancing) < values.size();
  if (has_all && place_of(kOldEnhancing) == values.size()) {
    map.set(kOldEnhancing, static_cast<std::uint8_t>(place_of(kEnhancing)));
  }
  for (const auto& item : mapped) map.set(item.value, item.class_index);
  return map;
}

}  // namespace segmamba::data
