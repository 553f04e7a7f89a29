#pragma once
// How a tool of the field counts: each convention is data, a struct of choices. The values that a
// convention must give are in tests/data/metrics, produced by running the named tools.

#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "segmamba/metrics/surface.h"

namespace segmamba::metrics {

enum class Unit { kMillimetres, kVoxels };

enum class Percentile {
  kLinear,         // between the two nearest ranks, in double (numpy)
  kLinearFloat32,  // the same with distances, rank and weight in float32 (torch.quantile)
  kAreaStep,       // the first distance at which the running sum of areas reaches the share
};

enum class Directions {
  kPooled,  // one percentile over the distances of both directions
  kLarger,  // the larger of the two directions' percentiles
};

// What a metric measures. p: prediction, g: reference, |m|: voxels, N: voxels of the grid.
enum class Quantity {
  kDice,                      // 2 |p and g| / (|p| + |g|)
  kJaccard,                   // |p and g| / |p or g|
  kSensitivity,               // TP / |g|
  kSpecificity,               // TN / (N - |g|)
  kPrecision,                 // TP / |p|
  kSignedVolumeDifference,    // (|p| - |g|) / |g|
  kAbsoluteVolumeDifference,  // ||p| - |g|| / |g|
  kSignedVolumeSimilarity,    // 2 (|p| - |g|) / (|p| + |g|)
  kVolumeSimilarity,          // 1 - ||p| - |g|| / (|p| + |g|) (Taha & Hanbury 2015)
  kFalseNegativeError,        // |g less p| / |g|
  kFalsePositiveError,        // |p less g| / (N - |g|)
  kReferenceVolume,           // mm^3
  kPredictionVolume,
  kVolumeDifference,          // mm^3, prediction less reference
  kHausdorff,                 // `parameter`: the share of distances, 0.95 or 1
  kHausdorffCutText,          // kHausdorff after its decimal text has lost its last character
  kMeanDistancePooled,        // over both directions' distances together
  kMeanDistanceOfDirections,  // mean of the two directed means
  kMeanDistanceFromPrediction,
  kMeanDistanceFromReference,
  kSurfaceDice,              // share of both surfaces within `parameter` mm of the other
  kSurfaceDiceOfDirections,  // mean of the two directions' shares
  kPredictionSurfaceArea,    // mm^2
  kReferenceSurfaceArea,
  kPredictionSurfacePoints,
  kReferenceSurfacePoints,
  // Of images that hold lesion numbers where the formula means 0 and 1 (lesion_numbers.h).
  kNumberedHausdorff,
  kNumberedSensitivity,
  kNumberedSpecificity,
  // Lesion-wise from here on.
  kLesionDice,
  kLesionHausdorff,
  kLesionSurfaceDice,  // `parameter` as in kSurfaceDiceOfDirections
  kLesionTruePositives,
  kLesionFalsePositives,
  kLesionFalseNegatives,
};
bool is_lesion_wise(Quantity quantity);
bool is_of_lesion_numbers(Quantity quantity);

enum class Better { kHigher, kLower, kNeither };
// Which values of a quantity mean a better prediction.
Better better(Quantity quantity);

// Stands for the length of the grid's diagonal in voxels where a distance is asked for.
inline constexpr double kGridDiagonal = -std::numeric_limits<double>::infinity();

// The values where a mask is empty. Where nothing is set the formula is applied, and a zero
// denominator gives `zero_denominator`.
struct EmptyRule {
  std::optional<double> both, prediction, reference;  // which one is empty
  double zero_denominator = 0;
};

struct MetricRule {
  std::string name;  // in tables
  Quantity quantity;
  EmptyRule empty;
  double parameter = 0;
  std::optional<SurfaceKind> surface = {};  // where it differs from the convention's
  bool of_tool = true;                      // false: added by with_metrics()
};

// Lesion-wise scores. A reference lesion is a 26-connected component of the reference dilated
// `dilation` times (18 neighbours), cut back to the reference. It is matched by every predicted
// lesion that meets the reference lesion dilated alone.
struct LesionRule {
  double penalty;  // HD95 of a lesion that was missed or invented, mm; or kGridDiagonal
  int dilation;
  double minimum_volume;  // mm^3; reference lesions of at most this volume are not scored
  // True: predicted lesions are merged like those of the reference, and those of at most
  // `minimum_volume` voxels are erased before anything is counted. False: plain components.
  bool merge_prediction = false;
  // Other dilations and volumes for some regions.
  struct Exception {
    std::string region;
    int dilation;
    double minimum_volume;
  };
  std::vector<Exception> exceptions = {};
  // Lesions of `region` that touch the same lesion of another tissue become one; tissue after
  // tissue.
  struct Join {
    std::string region;
    std::vector<std::string> tissues;
  };
  std::vector<Join> joins = {};

  // With the exception of a region applied.
  LesionRule for_region(const std::string& region) const;
};

struct Convention {
  std::string name;
  std::string source;  // the tool whose numbers these are
  Unit unit = Unit::kMillimetres;
  SurfaceKind surface = SurfaceKind::kFaceNeighbours;
  Percentile percentile = Percentile::kLinear;
  Directions directions = Directions::kPooled;
  bool float32_results = false;
  std::optional<LesionRule> lesions = {};
  std::vector<MetricRule> metrics = {};
  std::string remark = {};  // known defects of the tool, and what to know before comparing
};

// All conventions, in the order in which help texts list them.
const std::vector<Convention>& conventions();
// Throws UsageError with the nearest known name.
const Convention& find_convention(const std::string& name);

// Metrics that every convention can give, counted by its surface, unit and percentile: dice, iou,
// hd95, hd, assd, nsd_<T>mm (T: the tolerance, as in nsd_2mm or nsd_0.5mm), sensitivity,
// specificity, precision, gt_volume_mm3, pred_volume_mm3, volume_difference_mm3, volume_similarity,
// tp, fp, fn, lesion_dice, lesion_hd95. Where a mask is empty: two empty masks are a perfect
// prediction, one is the worst. Lesions of a convention without a rule for them are plain
// 26-connected components, matched by any shared voxel.
const std::vector<std::string>& general_metrics();
// `convention` with those of `names` added that its tool does not have. Throws UsageError with the
// nearest name for what is neither a general metric nor one of `convention`.
Convention with_metrics(Convention convention, const std::vector<std::string>& names);

// What the convention counts, for people: surface, unit, percentile, empty masks, lesions.
std::string explain(const Convention& convention);

}  // namespace segmamba::metrics
