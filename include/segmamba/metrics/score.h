#pragma once
// Scores of one case under any number of conventions.

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "segmamba/metrics/convention.h"
#include "segmamba/metrics/mask.h"

namespace segmamba::metrics {

// Labels on one grid, x fastest.
struct LabelPair {
  std::span<const std::uint8_t> prediction, reference;
  Grid grid;
};

struct Score {
  std::string region, convention, metric;
  double value;
};

// The scores of each region under each convention, in the order given. `metrics`: names to keep;
// empty keeps all that a convention has. Work that conventions share (surfaces, distances) is done
// once. Uses one thread. Throws Error where sizes and grid disagree.
std::vector<Score> score_case(const LabelPair& labels, const std::vector<Region>& regions,
                              const std::vector<Convention>& conventions,
                              const std::vector<std::string>& metrics = {});

}  // namespace segmamba::metrics
