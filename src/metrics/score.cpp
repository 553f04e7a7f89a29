#include "segmamba/metrics/score.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <optional>

#include "distances.h"
#include "lesion_numbers.h"
#include "lesions.h"
#include "segmamba/core/error.h"
#include "segmamba/core/text.h"

namespace segmamba::metrics {
namespace {

double ratio(double numerator, double denominator, double if_zero) {
  return denominator == 0 ? if_zero : numerator / denominator;
}

double grid_diagonal(const Grid& grid, Unit unit) {
  double squares = 0;
  for (int axis = 0; axis < 3; ++axis) {
    const double length = static_cast<double>(grid.size[axis]) *
                          (unit == Unit::kMillimetres ? grid.spacing[axis] : 1);
    squares += length * length;
  }
  return std::sqrt(squares);
}

// What CaPTk reads from the text "18.95" that its helper prints: 18.9. Whole numbers are printed
// with a zero to lose.
double cut_text(double value) {
  std::string text = format_double(value);
  if (text.find('.') == std::string::npos) return value;
  text.pop_back();
  return std::stod(text);
}

// Quantities of one pair of masks. The masks may be crops: `whole` is the grid they come from.
class PairScorer {
 public:
  PairScorer(Mask prediction, Mask reference, const Grid& whole)
      : prediction_(std::move(prediction)),
        reference_(std::move(reference)),
        whole_(whole),
        p_(static_cast<double>(count(prediction_))),
        g_(static_cast<double>(count(reference_))),
        common_(static_cast<double>(count_common(prediction_, reference_))) {}

  const Mask& prediction() const { return prediction_; }
  const Mask& reference() const { return reference_; }

  double value(const Convention& convention, const MetricRule& rule) {
    const std::optional<double> fixed = fixed_value(rule.empty);
    if (fixed) return *fixed == kGridDiagonal ? grid_diagonal(whole_, convention.unit) : *fixed;
    const double undefined = rule.empty.zero_denominator;
    const double volume = static_cast<double>(voxel_count(whole_.size));
    switch (rule.quantity) {
      case Quantity::kDice:
        return ratio(2 * common_, p_ + g_, undefined);
      case Quantity::kJaccard:
        return ratio(common_, p_ + g_ - common_, undefined);
      case Quantity::kSensitivity:
        return ratio(common_, g_, undefined);
      case Quantity::kSpecificity:
        return ratio(volume - p_ - g_ + common_, volume - g_, undefined);
      case Quantity::kPrecision:
        return ratio(common_, p_, undefined);
      case Quantity::kSignedVolumeDifference:
        return ratio(p_ - g_, g_, undefined);
      case Quantity::kAbsoluteVolumeDifference:
        return ratio(std::abs(p_ - g_), g_, undefined);
      case Quantity::kSignedVolumeSimilarity:
        return ratio(2 * (p_ - g_), p_ + g_, undefined);
      case Quantity::kVolumeSimilarity:
        return p_ + g_ == 0 ? undefined : 1 - std::abs(p_ - g_) / (p_ + g_);
      case Quantity::kFalseNegativeError:
        return ratio(g_ - common_, g_, undefined);
      case Quantity::kFalsePositiveError:
        return ratio(p_ - common_, volume - g_, undefined);
      case Quantity::kReferenceVolume:
        return g_ * voxel_volume();
      case Quantity::kPredictionVolume:
        return p_ * voxel_volume();
      case Quantity::kVolumeDifference:
        return (p_ - g_) * voxel_volume();
      default:
        return surface_value(convention, rule);
    }
  }

 private:
  std::optional<double> fixed_value(const EmptyRule& rule) const {
    if (p_ == 0 && g_ == 0) return rule.both;
    if (p_ == 0) return rule.prediction;
    if (g_ == 0) return rule.reference;
    return std::nullopt;
  }

  double voxel_volume() const { return whole_.spacing[0] * whole_.spacing[1] * whole_.spacing[2]; }

  double surface_value(const Convention& convention, const MetricRule& rule) {
    const SurfaceDistances& both =
        distances(rule.surface.value_or(convention.surface), convention.unit);
    const DirectedDistances &p = both.prediction_to_reference, &g = both.reference_to_prediction;
    switch (rule.quantity) {
      case Quantity::kHausdorff:
        return hausdorff(both, rule.parameter, convention.percentile, convention.directions);
      case Quantity::kHausdorffCutText:
        return cut_text(
            hausdorff(both, rule.parameter, convention.percentile, convention.directions));
      case Quantity::kMeanDistancePooled:
        return pooled_mean_distance(both);
      case Quantity::kMeanDistanceOfDirections:
        return (mean_distance(p) + mean_distance(g)) / 2;
      case Quantity::kMeanDistanceFromPrediction:
        return mean_distance(p);
      case Quantity::kMeanDistanceFromReference:
        return mean_distance(g);
      case Quantity::kSurfaceDice:
        return surface_dice(both, rule.parameter);
      case Quantity::kSurfaceDiceOfDirections:
        return surface_dice_of_directions(both, rule.parameter);
      case Quantity::kPredictionSurfaceArea:
        return surface_area(p);
      case Quantity::kReferenceSurfaceArea:
        return surface_area(g);
      case Quantity::kPredictionSurfacePoints:
        return static_cast<double>(p.distances.size());
      case Quantity::kReferenceSurfacePoints:
        return static_cast<double>(g.distances.size());
      default:
        throw Error(concat("metric ", rule.name, " is not one of a pair of masks"));
    }
  }

  const SurfaceDistances& distances(SurfaceKind kind, Unit unit) {
    const Spacing spacing = unit == Unit::kVoxels ? Spacing{1, 1, 1} : whole_.spacing;
    auto& cached = distances_[{kind, spacing}];
    if (!cached) cached = surface_distances(prediction_, reference_, kind, spacing);
    return *cached;
  }

  Mask prediction_, reference_;
  Grid whole_;
  double p_, g_, common_;
  std::map<std::pair<SurfaceKind, Spacing>, std::optional<SurfaceDistances>> distances_;
};

// Lesion-wise quantities of one region, from the lesions of both sides.
class LesionScorer {
 public:
  LesionScorer(const Components& prediction, const Components& reference, const LesionRule& rule,
               const Grid& grid, Unit unit)
      : penalty_(rule.penalty == kGridDiagonal ? grid_diagonal(grid, unit) : rule.penalty) {
    LesionMatches matches = match_lesions(prediction, reference, rule, grid.spacing);
    false_positives_ = static_cast<double>(matches.false_positives);
    for (LesionMatch& match : matches.lesions) {
      if (!match.scored) continue;
      if (match.found) {
        found_.emplace_back(std::move(match.prediction), std::move(match.reference), grid);
      } else {
        ++missed_;
      }
    }
  }

  double value(const Convention& convention, const MetricRule& rule) {
    switch (rule.quantity) {
      case Quantity::kLesionDice:
        return mean(convention, Quantity::kDice, rule, 0, 1);
      case Quantity::kLesionHausdorff:
        return mean(convention, Quantity::kHausdorff, rule, penalty_, 0);
      case Quantity::kLesionSurfaceDice:
        return mean(convention, Quantity::kSurfaceDiceOfDirections, rule, 0, 1);
      case Quantity::kLesionTruePositives:
        return static_cast<double>(found_.size());
      case Quantity::kLesionFalsePositives:
        return false_positives_;
      case Quantity::kLesionFalseNegatives:
        return missed_;
      default:
        throw Error(concat("metric ", rule.name, " is not lesion-wise"));
    }
  }

 private:
  // Over the scored reference lesions and the false positives; `worst` is what a missed or an
  // invented lesion counts.
  double mean(const Convention& convention, Quantity quantity, const MetricRule& rule, double worst,
              double if_no_lesions) {
    MetricRule of_lesion = rule;
    of_lesion.quantity = quantity;
    double sum = worst * (missed_ + false_positives_);
    for (PairScorer& lesion : found_) sum += lesion.value(convention, of_lesion);
    return ratio(sum, static_cast<double>(found_.size()) + missed_ + false_positives_,
                 if_no_lesions);
  }

  std::vector<PairScorer> found_;
  double penalty_, missed_ = 0, false_positives_ = 0;
};

// Quantities of the images of lesion numbers of one region.
class NumberScorer {
 public:
  NumberScorer(LesionNumbers prediction, LesionNumbers reference, const Grid& whole)
      : prediction_(std::move(prediction)), reference_(std::move(reference)), whole_(whole) {}

  double value(const Convention& convention, const MetricRule& rule) const {
    switch (rule.quantity) {
      case Quantity::kNumberedSensitivity:
        return numbered_sensitivity(prediction_, reference_);
      case Quantity::kNumberedSpecificity:
        return numbered_specificity(prediction_, reference_, voxel_count(whole_.size));
      default:
        break;
    }
    const auto is_empty = [](const LesionNumbers& image) {
      return !any_set(image.numbers.data(), static_cast<std::int64_t>(image.numbers.size()));
    };
    const bool no_prediction = is_empty(prediction_), no_reference = is_empty(reference_);
    if (no_prediction && no_reference) return *rule.empty.both;
    if (no_prediction) return *rule.empty.prediction;
    if (no_reference) return *rule.empty.reference;
    return hausdorff(numbered_surface_distances(prediction_, reference_, whole_.spacing),
                     rule.parameter, convention.percentile, convention.directions);
  }

 private:
  LesionNumbers prediction_, reference_;
  Grid whole_;
};

// The lesions of one side of a case, under one rule.
class LesionFinder {
 public:
  LesionFinder(std::span<const std::uint8_t> labels, const Size& size, Rows rows,
               const LesionRule& rule, bool is_prediction)
      : labels_(labels),
        size_(size),
        rows_(std::move(rows)),
        rule_(rule),
        is_prediction_(is_prediction) {}

  // Before lesions are joined through other tissues.
  const Components& unjoined(const Region& region) {
    const auto known = unjoined_.find(region.name);
    if (known != unjoined_.end()) return known->second;
    const LesionRule rule = rule_.for_region(region.name);
    const Mask mask = region_mask(labels_, size_, region, rows_);
    Components lesions;
    if (!is_prediction_) {
      lesions = merged_lesions(mask, rule.dilation);
    } else if (!rule.merge_prediction) {
      lesions = connected_components_26(mask);
    } else {
      const Components merged = merged_lesions(mask, rule.dilation);
      lesions = without_small(merged, rule.minimum_volume);
      kept_numbers_[region.name] = numbers_above(merged, rule.minimum_volume);
    }
    return unjoined_.emplace(region.name, std::move(lesions)).first->second;
  }

  const Components& find(const Region& region) {
    const Components* lesions = &unjoined(region);
    for (const LesionRule::Join& join : rule_.joins) {
      if (join.region != region.name) continue;
      for (const std::string& tissue : join.tissues) {
        joined_ = joined_through(*lesions, unjoined(tissue_region(tissue)));
        lesions = &joined_;
      }
    }
    return *lesions;
  }

  // The image that the script of the convention makes of them. It numbers the lesions of regions
  // with joins anew, others keep the numbers that they had before small ones were erased.
  LesionNumbers numbers(const Region& region) {
    const Components& lesions = find(region);
    LesionNumbers image{size_, lesions.labels};
    const auto kept = kept_numbers_.find(region.name);
    const bool is_joined =
        std::any_of(rule_.joins.begin(), rule_.joins.end(),
                    [&](const LesionRule::Join& join) { return join.region == region.name; });
    if (kept == kept_numbers_.end() || is_joined) return image;
    for (std::int32_t& number : image.numbers) number = kept->second[number];
    return image;
  }

 private:
  static const Region& tissue_region(const std::string& name) {
    for (const auto* list : {&brats_regions(), &brats_tissues()}) {
      for (const Region& region : *list) {
        if (region.name == name) return region;
      }
    }
    throw Error(concat("there is no tissue ", name));
  }

  std::span<const std::uint8_t> labels_;
  Size size_;
  Rows rows_;
  LesionRule rule_;
  bool is_prediction_;
  std::map<std::string, Components> unjoined_;
  std::map<std::string, std::vector<std::int32_t>> kept_numbers_;  // of unjoined_, before erasing
  Components joined_;                                              // of the region found last
};

// The part of a case that holds labels, with room for every dilation.
struct CroppedCase {
  Size size{};
  std::vector<std::uint8_t> prediction, reference;
  Rows prediction_rows, reference_rows;
};

CroppedCase crop_case(const LabelPair& labels, const std::vector<Convention>& conventions) {
  std::int64_t margin = 0;
  for (const Convention& convention : conventions) {
    if (!convention.lesions) continue;
    margin = std::max<std::int64_t>(margin, convention.lesions->dilation);
    for (const auto& exception : convention.lesions->exceptions) {
      margin = std::max<std::int64_t>(margin, exception.dilation);
    }
  }
  const Size& size = labels.grid.size;
  const Box box = bounding_box(labels.prediction, size)
                      .united(bounding_box(labels.reference, size))
                      .grown(margin, size);
  CroppedCase cropped{box.size(), crop(labels.prediction, size, box),
                      crop(labels.reference, size, box), nullptr, nullptr};
  cropped.prediction_rows = labelled_rows(cropped.prediction, cropped.size);
  cropped.reference_rows = labelled_rows(cropped.reference, cropped.size);
  return cropped;
}

}  // namespace

std::vector<Score> score_case(const LabelPair& labels, const std::vector<Region>& regions,
                              const std::vector<Convention>& conventions,
                              const std::vector<std::string>& metrics) {
  const auto voxels = static_cast<std::size_t>(voxel_count(labels.grid.size));
  if (labels.prediction.size() != voxels || labels.reference.size() != voxels) {
    throw Error(concat("score_case: a grid of ", join(labels.grid.size, "x"), " has ", voxels,
                       " voxels, got ", labels.prediction.size(), " for the prediction and ",
                       labels.reference.size(), " for the reference"));
  }
  const auto is_wanted = [&](const MetricRule& rule) {
    return metrics.empty() || std::find(metrics.begin(), metrics.end(), rule.name) != metrics.end();
  };
  const CroppedCase cropped = crop_case(labels, conventions);
  std::vector<Score> scores;
  std::map<std::string, std::pair<LesionFinder, LesionFinder>> finders;  // by convention
  for (const Region& region : regions) {
    PairScorer whole(region_mask(cropped.prediction, cropped.size, region, cropped.prediction_rows),
                     region_mask(cropped.reference, cropped.size, region, cropped.reference_rows),
                     labels.grid);
    for (const Convention& convention : conventions) {
      std::optional<PairScorer> without_erased;
      std::optional<LesionScorer> lesions;
      std::optional<NumberScorer> numbers;
      const auto wants = [&](bool (*kind)(Quantity)) {
        return std::any_of(
            convention.metrics.begin(), convention.metrics.end(),
            [&](const MetricRule& rule) { return kind(rule.quantity) && is_wanted(rule); });
      };
      const bool wants_lesions = wants(is_lesion_wise);
      if (convention.lesions && (wants_lesions || convention.lesions->merge_prediction)) {
        const LesionRule& rule = *convention.lesions;
        auto& [prediction_finder, reference_finder] =
            finders
                .try_emplace(convention.name,
                             LesionFinder(cropped.prediction, cropped.size, cropped.prediction_rows,
                                          rule, true),
                             LesionFinder(cropped.reference, cropped.size, cropped.reference_rows,
                                          rule, false))
                .first->second;
        if (rule.merge_prediction) {
          without_erased.emplace(to_mask(prediction_finder.unjoined(region)), whole.reference(),
                                 labels.grid);
        }
        if (wants_lesions) {
          lesions.emplace(prediction_finder.find(region), reference_finder.find(region),
                          rule.for_region(region.name), labels.grid, convention.unit);
        }
        if (wants(is_of_lesion_numbers)) {
          numbers.emplace(prediction_finder.numbers(region), reference_finder.numbers(region),
                          labels.grid);
        }
      }
      for (const MetricRule& rule : convention.metrics) {
        if (!is_wanted(rule)) continue;
        PairScorer& pair = without_erased ? *without_erased : whole;
        double value = is_lesion_wise(rule.quantity)         ? lesions->value(convention, rule)
                       : is_of_lesion_numbers(rule.quantity) ? numbers->value(convention, rule)
                                                             : pair.value(convention, rule);
        if (convention.float32_results) value = static_cast<double>(static_cast<float>(value));
        scores.push_back({region.name, convention.name, rule.name, value});
      }
    }
  }
  return scores;
}

}  // namespace segmamba::metrics
