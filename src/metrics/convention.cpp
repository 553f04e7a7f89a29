#include "segmamba/metrics/convention.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <map>
#include <string_view>

#include "segmamba/core/error.h"
#include "segmamba/core/text.h"

namespace segmamba::metrics {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kLargest = std::numeric_limits<double>::max();

EmptyRule always(double value) { return {value, value, value, value}; }
EmptyRule both_or_one(double both, double one) { return {both, one, one, one}; }
EmptyRule formula(double zero_denominator) { return {{}, {}, {}, zero_denominator}; }

// The published evaluation script scores a case as 0 / 50 where a region is empty on either side.
Convention segmamba_script() {
  Convention convention;
  convention.name = "segmamba";
  convention.source = "SegMamba 5_compute_metrics.py (ge-xing/SegMamba at cff3597, MedPy 0.5.2)";
  convention.unit = Unit::kVoxels;
  convention.metrics = {
      {"dice", Quantity::kDice, formula(0)},
      {"hd95", Quantity::kHausdorff, always(50), 0.95},
  };
  convention.remark =
      "Table 1 of the paper: plain mean and population standard deviation over cases. A region "
      "that "
      "is rightly absent scores Dice 0 and HD95 50.";
  return convention;
}

Convention medpy() {
  Convention convention;
  convention.name = "medpy";
  convention.source = "MedPy 0.5.2, medpy.metric.binary";
  convention.metrics = {
      {"dice", Quantity::kDice, formula(1)},
      {"hd95", Quantity::kHausdorff, always(kNan), 0.95},
      {"hd", Quantity::kHausdorff, always(kNan), 1},
      {"asd_pred_to_gt", Quantity::kMeanDistanceFromPrediction, always(kNan)},
      {"assd", Quantity::kMeanDistancePooled, always(kNan)},
      {"sensitivity", Quantity::kSensitivity, formula(0)},
      {"specificity", Quantity::kSpecificity, formula(0)},
      {"precision", Quantity::kPrecision, formula(0)},
      {"jaccard", Quantity::kJaccard, formula(1)},
      {"ravd", Quantity::kSignedVolumeDifference, formula(kNan)},
  };
  convention.remark = "MedPy raises an error for distances to an empty mask; here that is nan.";
  return convention;
}

Convention monai() {
  Convention convention;
  convention.name = "monai";
  convention.source = "MONAI 1.6.1, monai.metrics";
  convention.percentile = Percentile::kLinearFloat32;
  convention.directions = Directions::kLarger;
  convention.float32_results = true;
  convention.metrics = {
      {"dice", Quantity::kDice, {kNan, {}, kNan, kNan}},
      {"dice_ignore_empty_false", Quantity::kDice, formula(1)},
      {"hd95", Quantity::kHausdorff, always(kNan), 0.95},
      {"hd", Quantity::kHausdorff, both_or_one(kNan, kInfinity), 1},
      {"nsd_1mm", Quantity::kSurfaceDice, both_or_one(kNan, 0), 1},
      {"nsd_1mm_subvoxel", Quantity::kSurfaceDice, both_or_one(kNan, 0), 1,
       SurfaceKind::kVoxelCorners},
      {"sensitivity", Quantity::kSensitivity, formula(kNan)},
      {"specificity", Quantity::kSpecificity, formula(kNan)},
      {"precision", Quantity::kPrecision, formula(kNan)},
  };
  convention.remark =
      "MONAI leaves nan out of its means, so that a lesion missed altogether improves the mean "
      "HD95. "
      "Its float32 rank jumps for large surfaces (by 1/32 of a rank at 288,000 distances).";
  return convention;
}

Convention metrics_reloaded() {
  Convention convention;
  convention.name = "metrics-reloaded";
  convention.source = "MetricsReloaded, BinaryPairwiseMeasures (Project-MONAI at cb38dfc)";
  convention.directions = Directions::kLarger;
  const EmptyRule distance = both_or_one(0, kNan);
  convention.metrics = {
      {"dice", Quantity::kDice, formula(1)},
      {"hd95", Quantity::kHausdorff, distance, 0.95},
      {"hd", Quantity::kHausdorff, distance, 1},
      {"assd", Quantity::kMeanDistancePooled, distance},
      {"masd", Quantity::kMeanDistanceOfDirections, distance},
      {"nsd_1mm", Quantity::kSurfaceDice, both_or_one(1, 0), 1},
      {"sensitivity", Quantity::kSensitivity, formula(kNan)},
      {"specificity", Quantity::kSpecificity, formula(kNan)},
      {"precision", Quantity::kPrecision, {kNan, 0, {}, kNan}},
      {"avdr", Quantity::kAbsoluteVolumeDifference, formula(kNan)},
      {"iou", Quantity::kJaccard, formula(kNan)},
  };
  convention.remark =
      "The tool leaves 'set nan to the worst case when aggregating' to its user. It accumulates "
      "precision in float32 (here double), and its nsd of exactly one empty mask is undefined "
      "(here "
      "0).";
  return convention;
}

Convention surface_area() {
  Convention convention;
  convention.name = "surface-area";
  convention.source = "surface-distance (google-deepmind at 1f805ce)";
  convention.surface = SurfaceKind::kVoxelCorners;
  convention.percentile = Percentile::kAreaStep;
  convention.directions = Directions::kLarger;
  convention.metrics = {
      {"dice", Quantity::kDice, formula(kNan)},
      {"hd95", Quantity::kHausdorff, always(kInfinity), 0.95},
      {"hd", Quantity::kHausdorff, always(kInfinity), 1},
      {"nsd_1mm", Quantity::kSurfaceDice, both_or_one(kNan, 0), 1},
      {"asd_gt_to_pred", Quantity::kMeanDistanceFromReference, {kNan, kInfinity, kNan}},
      {"asd_pred_to_gt", Quantity::kMeanDistanceFromPrediction, {kNan, kNan, kInfinity}},
      {"surface_area_gt", Quantity::kReferenceSurfaceArea, {}},
      {"surface_area_pred", Quantity::kPredictionSurfaceArea, {}},
      {"surfels_gt", Quantity::kReferenceSurfacePoints, {}},
      {"surfels_pred", Quantity::kPredictionSurfacePoints, {}},
  };
  return convention;
}

Convention brats2023(const std::string& name, const std::string& challenges, int dilation,
                     double minimum_volume) {
  constexpr double kPenalty = 374;
  Convention convention;
  convention.name = name;
  convention.source =
      "BraTS 2023 " + challenges + ", metrics.py (rachitsaluja/BraTS-2023-Metrics at 43c9052)";
  convention.surface = SurfaceKind::kVoxelCorners;
  convention.percentile = Percentile::kAreaStep;
  convention.directions = Directions::kLarger;
  convention.lesions = LesionRule{kPenalty, dilation, minimum_volume};
  convention.metrics = {
      {"dice", Quantity::kDice, formula(1)},
      {"hd95", Quantity::kHausdorff, both_or_one(0, kPenalty), 0.95},
      {"lesion_dice", Quantity::kLesionDice, {}},
      {"lesion_hd95", Quantity::kLesionHausdorff, {}, 0.95},
      {"tp", Quantity::kLesionTruePositives, {}},
      {"fp", Quantity::kLesionFalsePositives, {}},
      {"fn", Quantity::kLesionFalseNegatives, {}},
      {"sensitivity", Quantity::kSensitivity, {1, {}, 0}},
      {"specificity", Quantity::kSpecificity, formula(0)},
      {"gt_volume_mm3", Quantity::kReferenceVolume, {}},
  };
  convention.remark =
      "dice and hd95 are of the whole region; the challenge ranks by lesion_dice and lesion_hd95.";
  return convention;
}

Convention brats2024() {
  constexpr double kPenalty = 337;
  static const std::map<Quantity, Quantity> kNumbered = {
      {Quantity::kHausdorff, Quantity::kNumberedHausdorff},
      {Quantity::kSensitivity, Quantity::kNumberedSensitivity},
      {Quantity::kSpecificity, Quantity::kNumberedSpecificity}};
  Convention convention = brats2023("brats2024", "", 3, 20);
  convention.source = "BraTS 2024 GLI, metrics_GLI.py (rachitsaluja/BraTS-2024-Metrics at f1131e3)";
  LesionRule& rule = *convention.lesions;
  rule.penalty = kPenalty;
  rule.merge_prediction = true;
  rule.exceptions = {{"ET", 3, 10}, {"NETC", 5, 20}, {"RC", 5, 20}};
  rule.joins = {{"ET", {"NETC", "RC"}},
                {"NETC", {"ET", "RC"}},
                {"RC", {"ET", "NETC"}},
                {"SNFH", {"ET", "RC", "NETC"}}};
  std::vector<MetricRule> of_masks;
  for (MetricRule& metric : convention.metrics) {
    if (metric.name == "hd95") metric.empty = both_or_one(0, kPenalty);
    const auto numbered = kNumbered.find(metric.quantity);
    if (numbered == kNumbered.end()) continue;
    of_masks.push_back(metric);
    of_masks.back().name += "_of_masks";
    metric.quantity = numbered->second;
  }
  constexpr SurfaceKind kFaces = SurfaceKind::kFaceNeighbours;
  const std::vector<MetricRule> surface_dice = {
      {"nsd_05mm", Quantity::kSurfaceDiceOfDirections, both_or_one(1, 0), 0.5, kFaces},
      {"nsd_1mm", Quantity::kSurfaceDiceOfDirections, both_or_one(1, 0), 1, kFaces},
      {"lesion_nsd_05mm", Quantity::kLesionSurfaceDice, {}, 0.5, kFaces},
      {"lesion_nsd_1mm", Quantity::kLesionSurfaceDice, {}, 1, kFaces},
  };
  convention.metrics.insert(convention.metrics.end(), surface_dice.begin(), surface_dice.end());
  convention.metrics.insert(convention.metrics.end(), of_masks.begin(), of_masks.end());
  convention.remark =
      "dice and hd95 are of the whole region; the challenge ranks by lesion_dice and lesion_hd95. "
      "Label 4 is the resection cavity (RC). Known defect: the script computes hd95, sensitivity "
      "and specificity of the whole region from images of lesion numbers instead of masks, which "
      "is "
      "meaningless unless both sides hold at most one lesion. They are given as the script gives "
      "them; hd95_of_masks, sensitivity_of_masks and specificity_of_masks are what was meant.";
  return convention;
}

Convention captk() {
  Convention convention;
  convention.name = "captk";
  convention.source = "CaPTk, BraTS label statistics (CBICA/CaPTk at cce8818, HausdorffCLI)";
  convention.unit = Unit::kVoxels;
  convention.metrics = {
      {"dice", Quantity::kDice, formula(1)},
      {"hd95", Quantity::kHausdorff, both_or_one(0, kGridDiagonal), 0.95},
      {"jaccard", Quantity::kJaccard, formula(kLargest)},
      {"volume_similarity", Quantity::kSignedVolumeSimilarity, formula(kLargest)},
      {"hd95_truncated_text", Quantity::kHausdorffCutText, both_or_one(0, kGridDiagonal), 0.95},
      {"false_negative_error", Quantity::kFalseNegativeError, formula(kLargest)},
      {"false_positive_error", Quantity::kFalsePositiveError, {kLargest, {}, {}, kLargest}},
  };
  convention.remark =
      "Known defect: the tool cuts the last digit off the HD95 that it prints (18.95 becomes "
      "18.9). "
      "hd95_truncated_text is that number, hd95 the one before the cut.";
  return convention;
}

MetricRule surface_dice_rule(const std::string& name, double tolerance) {
  return {name, Quantity::kSurfaceDice, both_or_one(1, 0), tolerance};
}

const std::vector<MetricRule>& general_rules() {
  const EmptyRule distance = both_or_one(0, kInfinity);
  static const std::vector<MetricRule> rules = {
      {"dice", Quantity::kDice, formula(1)},
      {"iou", Quantity::kJaccard, formula(1)},
      {"hd95", Quantity::kHausdorff, distance, 0.95},
      {"hd", Quantity::kHausdorff, distance, 1},
      {"assd", Quantity::kMeanDistancePooled, distance},
      surface_dice_rule("nsd_1mm", 1),
      {"sensitivity", Quantity::kSensitivity, {1, {}, 0}},
      {"specificity", Quantity::kSpecificity, formula(1)},
      {"precision", Quantity::kPrecision, {1, 0, {}}},
      {"gt_volume_mm3", Quantity::kReferenceVolume, {}},
      {"pred_volume_mm3", Quantity::kPredictionVolume, {}},
      {"volume_difference_mm3", Quantity::kVolumeDifference, {}},
      {"volume_similarity", Quantity::kVolumeSimilarity, formula(1)},
      {"tp", Quantity::kLesionTruePositives, {}},
      {"fp", Quantity::kLesionFalsePositives, {}},
      {"fn", Quantity::kLesionFalseNegatives, {}},
      {"lesion_dice", Quantity::kLesionDice, {}},
      {"lesion_hd95", Quantity::kLesionHausdorff, {}, 0.95},
  };
  return rules;
}

// 2.5 for "nsd_2.5mm".
std::optional<double> surface_dice_tolerance(const std::string& name) {
  constexpr std::string_view kStart = "nsd_", kEnd = "mm";
  if (!starts_with(name, kStart) || !ends_with(name, kEnd)) return std::nullopt;
  const char* first = name.data() + kStart.size();
  const char* last = name.data() + name.size() - kEnd.size();
  double tolerance = 0;
  const auto [end, error] = std::from_chars(first, last, tolerance);
  if (error != std::errc() || end != last || !(tolerance >= 0) || std::isinf(tolerance)) {
    return std::nullopt;
  }
  return tolerance;
}

std::string describe(double value) {
  if (value == kGridDiagonal) return "the grid's diagonal";
  if (value == kLargest) return "the largest double";
  return format_double(value);
}

// The value of a formula for empty masks, as far as it is one number.
struct FormulaValues {
  std::optional<double> both, prediction, reference;
};

FormulaValues formula_values(Quantity quantity, double zero_denominator) {
  const double z = zero_denominator;
  switch (quantity) {
    case Quantity::kDice:
    case Quantity::kJaccard:
      return {z, 0, 0};
    case Quantity::kSensitivity:
      return {z, 0, z};
    case Quantity::kPrecision:
      return {z, z, 0};
    case Quantity::kSpecificity:
      return {1, 1, {}};
    case Quantity::kSignedVolumeDifference:
      return {z, -1, z};
    case Quantity::kAbsoluteVolumeDifference:
      return {z, 1, z};
    case Quantity::kSignedVolumeSimilarity:
      return {z, -2, 2};
    case Quantity::kVolumeSimilarity:
      return {z, 0, 0};
    case Quantity::kFalseNegativeError:
      return {z, 1, z};
    case Quantity::kFalsePositiveError:
      return {0, 0, {}};
    case Quantity::kNumberedSensitivity:
      return {1, 0, 0};
    case Quantity::kNumberedSpecificity:
      return {1, 1, {}};
    default:
      return {};
  }
}

// "both 1, prediction 0, reference 0"
std::string describe_empty(const MetricRule& metric) {
  const auto [both, prediction, reference] =
      formula_values(metric.quantity, metric.empty.zero_denominator);
  const auto part = [](const std::optional<double>& rule, const std::optional<double>& formula) {
    if (rule) return describe(*rule);
    return formula ? describe(*formula) : std::string("by its formula");
  };
  return concat("both ", part(metric.empty.both, both), ", prediction ",
                part(metric.empty.prediction, prediction), ", reference ",
                part(metric.empty.reference, reference));
}

bool depends_on_empty_masks(Quantity quantity) {
  switch (quantity) {
    case Quantity::kReferenceVolume:
    case Quantity::kPredictionVolume:
    case Quantity::kVolumeDifference:
    case Quantity::kPredictionSurfaceArea:
    case Quantity::kReferenceSurfaceArea:
    case Quantity::kPredictionSurfacePoints:
    case Quantity::kReferenceSurfacePoints:
      return false;
    default:
      return !is_lesion_wise(quantity);
  }
}

}  // namespace

bool is_lesion_wise(Quantity quantity) { return quantity >= Quantity::kLesionDice; }

bool is_of_lesion_numbers(Quantity quantity) {
  return quantity == Quantity::kNumberedHausdorff || quantity == Quantity::kNumberedSensitivity ||
         quantity == Quantity::kNumberedSpecificity;
}

Better better(Quantity quantity) {
  switch (quantity) {
    case Quantity::kDice:
    case Quantity::kJaccard:
    case Quantity::kSensitivity:
    case Quantity::kSpecificity:
    case Quantity::kPrecision:
    case Quantity::kVolumeSimilarity:
    case Quantity::kSurfaceDice:
    case Quantity::kSurfaceDiceOfDirections:
    case Quantity::kNumberedSensitivity:
    case Quantity::kNumberedSpecificity:
    case Quantity::kLesionDice:
    case Quantity::kLesionSurfaceDice:
    case Quantity::kLesionTruePositives:
      return Better::kHigher;
    case Quantity::kAbsoluteVolumeDifference:
    case Quantity::kFalseNegativeError:
    case Quantity::kFalsePositiveError:
    case Quantity::kHausdorff:
    case Quantity::kHausdorffCutText:
    case Quantity::kMeanDistancePooled:
    case Quantity::kMeanDistanceOfDirections:
    case Quantity::kMeanDistanceFromPrediction:
    case Quantity::kMeanDistanceFromReference:
    case Quantity::kNumberedHausdorff:
    case Quantity::kLesionHausdorff:
    case Quantity::kLesionFalsePositives:
    case Quantity::kLesionFalseNegatives:
      return Better::kLower;
    case Quantity::kSignedVolumeDifference:  // best at 0
    case Quantity::kSignedVolumeSimilarity:
    case Quantity::kReferenceVolume:
    case Quantity::kPredictionVolume:
    case Quantity::kVolumeDifference:
    case Quantity::kPredictionSurfaceArea:
    case Quantity::kReferenceSurfaceArea:
    case Quantity::kPredictionSurfacePoints:
    case Quantity::kReferenceSurfacePoints:
      break;
  }
  return Better::kNeither;
}

LesionRule LesionRule::for_region(const std::string& region) const {
  LesionRule rule = *this;
  for (const Exception& exception : exceptions) {
    if (exception.region != region) continue;
    rule.dilation = exception.dilation;
    rule.minimum_volume = exception.minimum_volume;
  }
  return rule;
}

const std::vector<Convention>& conventions() {
  static const std::vector<Convention> all = {
      segmamba_script(),
      medpy(),
      monai(),
      metrics_reloaded(),
      surface_area(),
      brats2023("brats2023", "GLI, SSA and PED", 3, 50),
      brats2023("brats2023-men", "MEN", 1, 50),
      brats2023("brats2023-met", "MET", 1, 2),
      brats2024(),
      captk(),
  };
  return all;
}

const Convention& find_convention(const std::string& name) {
  std::vector<std::string> names;
  for (const Convention& convention : conventions()) {
    if (convention.name == name) return convention;
    names.push_back(convention.name);
  }
  const std::string near = nearest(name, names);
  throw UsageError(concat("there is no convention '", name, "'",
                          near.empty() ? "" : concat(" (did you mean '", near, "'?)"),
                          "; known: ", join(names, ", ")));
}

const std::vector<std::string>& general_metrics() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> list;
    for (const MetricRule& rule : general_rules()) list.push_back(rule.name);
    return list;
  }();
  return names;
}

Convention with_metrics(Convention convention, const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    const auto has_name = [&](const MetricRule& rule) { return rule.name == name; };
    if (std::any_of(convention.metrics.begin(), convention.metrics.end(), has_name)) continue;
    const auto& known = general_rules();
    const auto general = std::find_if(known.begin(), known.end(), has_name);
    MetricRule rule;
    if (general != known.end()) {
      rule = *general;
    } else if (const auto tolerance = surface_dice_tolerance(name)) {
      rule = surface_dice_rule(name, *tolerance);
    } else {
      std::vector<std::string> candidates = general_metrics();
      for (const MetricRule& own : convention.metrics) candidates.push_back(own.name);
      const std::string near = nearest(name, candidates);
      throw UsageError(concat("there is no metric '", name, "'",
                              near.empty() ? "" : concat(" (did you mean '", near, "'?)"),
                              "; every convention can give ", join(general_metrics(), ", ")));
    }
    rule.of_tool = false;
    if (is_lesion_wise(rule.quantity) && !convention.lesions) {
      convention.lesions = LesionRule{kGridDiagonal, 0, 0};
    }
    convention.metrics.push_back(std::move(rule));
  }
  return convention;
}

std::string explain(const Convention& convention) {
  std::string text = concat(convention.name, "\n  source: ", convention.source, "\n");
  const bool corners = convention.surface == SurfaceKind::kVoxelCorners;
  text += concat("  surface: ",
                 corners ? "corners of voxels, each with its triangulated area; beyond the grid is "
                           "background"
                         : "voxels with a face neighbour outside the mask; beyond the grid counts "
                           "as outside, so voxels on the border are surface",
                 "\n");
  text +=
      concat("  distances: ",
             convention.unit == Unit::kVoxels ? "in voxels, the spacing of the header is ignored"
                                              : "in mm, with the spacing of the header",
             "\n");
  const char* percentile = "";
  switch (convention.percentile) {
    case Percentile::kLinear:
      percentile = "linear between ranks, in double";
      break;
    case Percentile::kLinearFloat32:
      percentile = "linear between ranks, in float32";
      break;
    case Percentile::kAreaStep:
      percentile = "first distance whose share of the surface area reaches 95 %";
      break;
  }
  text += concat("  percentile: ", percentile, "; ",
                 convention.directions == Directions::kPooled
                     ? "over the distances of both directions pooled"
                     : "the larger of the two directions",
                 "\n");
  text += "  empty masks (which side is empty, and the value):\n";
  std::size_t width = 0;
  for (const MetricRule& metric : convention.metrics) width = std::max(width, metric.name.size());
  for (const MetricRule& metric : convention.metrics) {
    if (!depends_on_empty_masks(metric.quantity)) continue;
    text += concat("    ", metric.name, std::string(width - metric.name.size() + 2, ' '),
                   describe_empty(metric), "\n");
  }
  std::vector<std::string> added;
  for (const MetricRule& metric : convention.metrics) {
    if (!metric.of_tool) added.push_back(metric.name);
  }
  if (!added.empty()) {
    text += concat("  not of the tool, but counted by its surface, unit and percentile: ",
                   join(added, ", "), "\n");
  }
  if (convention.lesions) {
    const LesionRule& rule = *convention.lesions;
    text += concat(
        "  lesions: ",
        rule.dilation == 0 ? std::string("26-connected parts, matched by any shared voxel")
                           : concat("reference parts whose ", rule.dilation,
                                    "-fold dilations touch are one; those of at most ",
                                    format_double(rule.minimum_volume), " mm3 are not scored"),
        "; a missed or invented lesion counts Dice 0 and HD95 ", describe(rule.penalty), "\n");
    if (rule.merge_prediction) {
      text +=
          "           predicted parts are merged likewise, and those of at most that many voxels "
          "are erased first\n";
    }
    for (const auto& exception : rule.exceptions) {
      text += concat("           ", exception.region, ": dilation ", exception.dilation,
                     ", minimum ", format_double(exception.minimum_volume), " mm3\n");
    }
  }
  if (!convention.remark.empty()) text += concat("  note: ", convention.remark, "\n");
  return text;
}

}  // namespace segmamba::metrics
