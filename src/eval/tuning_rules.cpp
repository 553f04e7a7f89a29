#include "tuning_rules.h"

#include <algorithm>

#include "segmamba/core/parallel.h"
#include "segmamba/core/text.h"
#include "segmamba/data/dataset.h"
#include "segmamba/metrics/runs.h"
#include "volume_steps.h"

namespace segmamba::eval {
namespace {

using post::PostprocessConfig;

bool holds(const metrics::Region& region, std::uint8_t label) {
  return std::find(region.labels.begin(), region.labels.end(), label) != region.labels.end();
}

bool is_within(const metrics::Region& inner, const metrics::Region& outer) {
  return std::all_of(inner.labels.begin(), inner.labels.end(),
                     [&](std::uint8_t label) { return holds(outer, label); });
}

bool is_of_brats(const std::vector<metrics::Region>& regions) {
  return std::all_of(regions.begin(), regions.end(), [](const metrics::Region& region) {
    const auto is_it = [&](const metrics::Region& known) {
      return known.name == region.name && known.labels == region.labels;
    };
    const auto &wholes = metrics::brats_regions(), &tissues = metrics::brats_tissues();
    return std::any_of(wholes.begin(), wholes.end(), is_it) ||
           std::any_of(tissues.begin(), tissues.end(), is_it);
  });
}

std::string name_in_rules(const metrics::Region& region, bool of_brats) {
  const std::vector<int> labels(region.labels.begin(), region.labels.end());
  return of_brats ? region.name : join(labels, "+");
}

// What a region that is too small was mistaken for: the rest of the smallest region around it (of
// the enhancing tumour that is necrosis), or background where there is none.
std::uint8_t label_instead(const metrics::Region& region,
                           const std::vector<metrics::Region>& regions) {
  const metrics::Region* around = nullptr;
  for (const metrics::Region& other : regions) {
    if (!is_within(region, other) || is_within(other, region)) continue;
    if (around == nullptr || other.labels.size() < around->labels.size()) around = &other;
  }
  if (around == nullptr) return 0;
  return *std::find_if(around->labels.begin(), around->labels.end(),
                       [&](std::uint8_t label) { return !holds(region, label); });
}

// Of a region, in mL: those of its parts and of the whole, in all predictions.
struct Volumes {
  std::vector<double> parts, wholes;
};

Volumes volumes_of(const std::vector<TuningCase>& cases, const metrics::Region& region) {
  std::vector<std::vector<double>> parts(cases.size());
  parallel_for(std::ssize(cases), [&](std::int64_t i) {
    constexpr double kCubicMillimetres = 1000;  // in a millilitre
    const auto labels = cases[i].prediction();
    const auto& [size, spacing] = cases[i].grid();
    const double voxel_ml = spacing[0] * spacing[1] * spacing[2] / kCubicMillimetres;
    const auto found =
        metrics::connected_parts(metrics::runs_of(metrics::region_mask(labels, size, region)),
                                 metrics::Connectivity::kCorners);
    for (const std::int64_t voxels : found.voxels) {
      parts[i].push_back(static_cast<double>(voxels) * voxel_ml);
    }
  });
  Volumes volumes;
  for (const auto& of_case : parts) {
    double whole = 0;
    for (const double part : of_case) whole += part;
    if (whole > 0) volumes.wholes.push_back(whole);
    volumes.parts.insert(volumes.parts.end(), of_case.begin(), of_case.end());
  }
  return volumes;
}

}  // namespace

std::vector<std::string> class_names(const std::vector<metrics::Region>& regions) {
  std::vector<std::string> names = data::kBratsClasses;
  names.emplace_back("resection cavity");
  if (is_of_brats(regions)) return names;
  names.resize(1);
  for (int label = 1; label < 256; ++label) names.push_back(std::to_string(label));
  return names;
}

std::vector<RuleFamily> rule_families(const std::vector<TuningCase>& cases,
                                      const std::vector<metrics::Region>& regions) {
  const bool of_brats = is_of_brats(regions);
  const std::vector<std::string> classes = class_names(regions);
  std::vector<RuleFamily> fill, remove, largest, replace;
  for (const metrics::Region& region : regions) {
    const std::string name = name_in_rules(region, of_brats);
    fill.push_back({&PostprocessConfig::fill_holes, "fill_holes", {name}});
    remove.push_back({&PostprocessConfig::remove_below_ml, "remove_below_ml", {}});
    largest.push_back({&PostprocessConfig::largest_only, "largest_only", {name}});
    replace.push_back({&PostprocessConfig::replace_below_ml, "replace_below_ml", {}});
    const Volumes volumes = volumes_of(cases, region);
    for (const double ml : volume_steps(volumes.parts)) {
      remove.back().entries.push_back(concat(name, "=", format_double(ml)));
    }
    for (const double ml : volume_steps(volumes.wholes)) {
      replace.back().entries.push_back(
          concat(name, "=", format_double(ml), "->", classes[label_instead(region, regions)]));
    }
  }
  std::vector<RuleFamily> families;
  for (auto* list : {&fill, &remove, &largest, &replace}) {
    families.insert(families.end(), list->begin(), list->end());
  }
  return families;
}

}  // namespace segmamba::eval
