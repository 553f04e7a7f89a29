#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <vector>

#include "segmamba/core/half.h"
#include "segmamba/data/prepared_case.h"
#include "segmamba/data/regions.h"
#include "window_scores.h"

namespace segmamba::engine {

// Which maps are made of scores, beside the labels.
struct WantedMaps {
  bool probabilities = false, uncertainty = false;
};

// Labels and maps in the grid of a case's files, made from scores slice by slice.
class PredictionMaps {
 public:
  // What is outside of the case's crop is background.
  PredictionMaps(const data::PreparedCase& item, const ScoreKind& kind, std::int64_t outputs,
                 const std::vector<data::Region>& regions, const WantedMaps& wanted);

  // scores [kind.channels(), n, H, W] of slices of the crop, from `first_slice` on, with the
  // disagreement last where there is uncertainty.
  void add(const torch::Tensor& scores, std::int64_t first_slice);

  std::vector<std::uint8_t> labels;              // classes
  std::vector<std::vector<Half>> probabilities;  // one an output
  std::vector<Half> entropy, disagreement;       // nats

 private:
  const data::PreparedCase& item_;
  ScoreKind kind_;
  std::int64_t outputs_;
  const std::vector<data::Region>& regions_;
};

}  // namespace segmamba::engine
