#pragma once
// The cases of a validation set in memory, for trying many rules on.

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "segmamba/eval/evaluate.h"
#include "segmamba/metrics/convention.h"
#include "segmamba/metrics/mask.h"

namespace segmamba::eval {

// What is to become better: one metric of one convention, over regions.
struct Objective {
  metrics::Convention convention;
  std::string metric;
  std::vector<metrics::Region> regions;

  // The score of a region that neither side holds. Where the convention gives nan it is perfect.
  double of_absent() const;
};

// Labels as stretches of equal ones: a hundredth of their size and less.
class PackedLabels {
 public:
  PackedLabels() = default;
  explicit PackedLabels(std::span<const std::uint8_t> labels);
  std::vector<std::uint8_t> unpack() const;

 private:
  std::vector<std::pair<std::uint8_t, std::uint32_t>> stretches_;
};

// Both sides of a case, cut to where either holds labels.
class TuningCase {
 public:
  // Reads the files, label 4 as options say. Throws Error.
  TuningCase(const CasePair& pair, const EvaluateOptions& options);

  const metrics::Grid& grid() const { return grid_; }
  std::vector<std::uint8_t> prediction() const { return prediction_.unpack(); }
  // One score a region. `prediction`: labels on grid().
  std::vector<double> score(std::span<const std::uint8_t> prediction,
                            const Objective& objective) const;

 private:
  metrics::Grid grid_;
  PackedLabels prediction_, reference_;
};

}  // namespace segmamba::eval
