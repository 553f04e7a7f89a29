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
  kVolumeSimilarity,          // 2 (|p| - |g|) / (|p| + |g|), signed
  kReferenceVolume,           // mm^3
  kHausdorff,                 // `parameter`: the share of distances, 0.95 or 1
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
  // Lesion-wise from here on.
  kLesionDice,
  kLesionHausdorff,
  kLesionSurfaceDice,  // `parameter` as in kSurfaceDiceOfDirections
  kLesionTruePositives,
  kLesionFalsePositives,
  kLesionFalseNegatives,
};
bool is_lesion_wise(Quantity quantity);

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
};

// Lesion-wise scores. A reference lesion is a 26-connected component of the reference dilated
// `dilation` times (18 neighbours), cut back to the reference. It is matched by every predicted
// lesion that meets the reference lesion dilated alone.
struct LesionRule {
  double penalty;  // HD95 of a lesion that was missed or invented, mm
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
// What the convention counts, for people: surface, unit, percentile, empty masks, lesions.
std::string explain(const Convention& convention);

}  // namespace segmamba::metrics
