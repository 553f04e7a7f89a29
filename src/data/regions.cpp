#include "segmamba/data/regions.h"

#include <algorithm>
#include <map>

#include "names.h"
#include "segmamba/core/error.h"
#include "segmamba/core/text.h"

namespace segmamba::data {
namespace {

[[noreturn]] void fail(const std::string& what) { throw Error(concat("data.regions: ", what)); }

// The classes of the regions that BraTS scores, by the canonical names of both.
const std::map<std::string, std::vector<std::string>>& brats_regions() {
  static const std::map<std::string, std::vector<std::string>> regions = {
      {"whole tumour", {"necrosis", "oedema", "enhancing"}},
      {"tumour core", {"necrosis", "enhancing"}},
      {"enhancing", {"enhancing"}}};
  return regions;
}

std::uint8_t foreground_class(const std::vector<std::string>& classes, const std::string& name,
                              const std::string& entry) {
  const std::size_t place = find_class(classes, name);
  if (place == classes.size()) {
    const std::string near = nearest(name, classes);
    fail(concat("'", entry, "': there is no class '", name, "' in data.classes (",
                join(classes, ", "), ")",
                near.empty() ? "" : concat("; did you mean '", near, "'?")));
  }
  if (place == 0) fail(concat("'", entry, "' holds the background"));
  return static_cast<std::uint8_t>(place);
}

Region parse_region(const std::string& entry, const std::vector<std::string>& classes) {
  Region region;
  std::vector<std::string> names;
  const std::size_t equals = entry.find('=');
  if (equals == std::string::npos) {
    region.name = trim(entry);
    const auto found = brats_regions().find(canonical_class(region.name));
    if (found == brats_regions().end()) {
      fail(concat("'", entry, "' is not WT, TC, ET or NAME=CLASS+CLASS"));
    }
    names = found->second;
  } else {
    region.name = trim(entry.substr(0, equals));
    names = split(entry.substr(equals + 1), '+');
  }
  if (region.name.empty()) fail(concat("'", entry, "' has no name"));
  for (const auto& name : names) {
    region.classes.push_back(foreground_class(classes, trim(name), entry));
  }
  return region;
}

bool holds(const Region& region, std::uint8_t class_index) {
  return std::find(region.classes.begin(), region.classes.end(), class_index) !=
         region.classes.end();
}

}  // namespace

std::vector<Region> parse_regions(const std::vector<std::string>& entries,
                                  const std::vector<std::string>& classes) {
  // Each needs a class of its own.
  if (entries.size() > ClassMap::kNone) {
    fail(concat("lists ", entries.size(), " regions; ", int{ClassMap::kNone}, " are possible"));
  }
  std::vector<Region> regions;
  for (const auto& entry : entries) {
    regions.push_back(parse_region(entry, classes));
    const auto is_the_same = [&](const Region& other) {
      return to_lower(other.name) == to_lower(regions.back().name);
    };
    if (std::count_if(regions.begin(), regions.end(), is_the_same) > 1) {
      fail(concat("there are two regions '", regions.back().name, "'"));
    }
  }
  for (auto region = regions.begin(); region != regions.end(); ++region) {
    std::vector<std::string> own;  // classes that no later region holds
    for (std::size_t i = 1; i < classes.size(); ++i) {
      const auto place = static_cast<std::uint8_t>(i);
      if (!holds(*region, place) ||
          std::any_of(region + 1, regions.end(),
                      [place](const Region& later) { return holds(later, place); })) {
        continue;
      }
      region->painted = place;
      own.push_back(classes[i]);
    }
    if (own.empty()) {
      fail(concat("'", region->name, "' has no class that no later region holds: list a region ",
                  "before those within it, and none that is the sum of others"));
    }
    if (own.size() > 1) {
      fail(concat("only '", region->name, "' tells ", join(own, " and "),
                  " from the rest, so they cannot be told apart: add a region of one of them ",
                  "after it"));
    }
  }
  for (std::size_t i = 1; i < classes.size() && !regions.empty(); ++i) {
    if (std::none_of(regions.begin(), regions.end(), [i](const Region& region) {
          return holds(region, static_cast<std::uint8_t>(i));
        })) {
      fail(concat("no region holds the class ", classes[i]));
    }
  }
  return regions;
}

}  // namespace segmamba::data
