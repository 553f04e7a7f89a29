#pragma once
// What is done to a label map after the model: rules over the connected parts and the volume of a
// region, a set of labels.

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "segmamba/metrics/mask.h"
#include "segmamba/metrics/runs.h"

namespace segmamba::post {

enum class RuleKind {
  // Background that the region encloses (no path over faces leads from it out of the region's box)
  // becomes the label of the region that is most common on its faces. Other labels stay: a cavity
  // within a tumour is none of its holes.
  kFillHoles,
  // All parts but the `count` largest are removed; of equal ones the first in memory is the larger.
  kKeepLargest,
  // Parts of less than `millilitres` are removed.
  kRemoveBelow,
  // The whole region becomes `becomes` where all of it is less than `millilitres`.
  kReplaceBelow,
};

// A removed part becomes the label outside the region that is most common on its faces: a speck of
// enhancing tumour within oedema becomes oedema, one on its own background. Of labels that are
// equally common the lowest is taken.
struct Rule {
  RuleKind kind = RuleKind::kFillHoles;
  std::string name = {};  // for reports: "remove_below_ml: ET=0.1"
  metrics::Region region = {};
  double millilitres = 0;
  std::int64_t count = 1;
  std::optional<std::uint8_t> becomes = {};  // instead of the most common label
  metrics::Connectivity connectivity = metrics::Connectivity::kCorners;
};

// What a rule did.
struct Change {
  std::string rule;  // its name
  std::int64_t parts = 0, voxels = 0;
  double millilitres = 0;
};

// Applies the rules one after another and returns one entry for each. `labels` are x fastest.
// Uses one thread, and memory for the surfaces of the regions. Throws Error where the size of
// `labels` is not that of the grid.
std::vector<Change> postprocess(std::span<std::uint8_t> labels, const metrics::Grid& grid,
                                const std::vector<Rule>& rules);

}  // namespace segmamba::post
