#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "segmamba/data/case_store.h"
#include "segmamba/data/data_config.h"
#include "segmamba/data/patch_source.h"
#include "segmamba/engine/distributed.h"
#include "segmamba/engine/observer.h"
#include "segmamba/engine/predictor.h"
#include "segmamba/metrics/mask.h"

namespace segmamba::engine {

// What validation scores: data.regions where there are any; else WT, TC and ET where these are
// regions of the classes; otherwise each class but the first.
std::vector<metrics::Region> validation_regions(const data::DataConfig& config);

// Two label maps of one grid (x fastest). Dice: 1 where a region is empty in both. HD95, where
// asked for, in mm under the convention `medpy`; 0 where a region is empty in both, the diagonal
// of the grid where it is empty in one (the worst there is; BraTS' 374 mm is that of its grid).
RegionScores score_regions(std::span<const std::uint8_t> prediction,
                           std::span<const std::uint8_t> reference, const metrics::Grid& grid,
                           const std::vector<metrics::Region>& regions, bool with_hd95);

// The mean of each score over cases, nan left out. Empty where there are no cases.
RegionScores mean_scores(const std::vector<CaseScores>& cases);

struct ValidationTask {
  const Predictor& predictor;
  data::CaseStore& cases;
  const std::vector<metrics::Region>& regions;
  std::int64_t count = 0;  // the first so many cases are scored
  bool with_hd95 = true;
  Ranks& ranks;
  std::function<bool()> cancelled;  // asked before each window
  // Told on every rank of its own cases: how many of its share are done.
  std::function<void(std::int64_t done, std::int64_t total)> on_case;
  // Cases that cannot be read are left out.
  std::function<void(const std::string& message)> on_bad_case;
};

struct ValidationResult {
  RegionScores mean;
  std::vector<CaseScores> cases;      // in the order of the store
  std::vector<CasePicture> pictures;  // best, median, worst; no case twice
};

// Segments whole cases and scores them in their prepared grid; rank r takes cases r, r + n, ... and
// all ranks get the result. Throws Error where no case can be read, Interrupted on all ranks where
// one was.
ValidationResult validate(const ValidationTask& task);

// Dice over patches 0 .. count-1 of `source`, all voxels of all patches together, shared by the
// ranks: what `source` draws, without augmentation. Throws Interrupted on all ranks where one was.
RegionScores validate_patches(const Predictor& predictor, data::PatchSource& source,
                              std::int64_t count, const std::vector<metrics::Region>& regions,
                              Ranks& ranks, const std::function<bool()>& cancelled);

}  // namespace segmamba::engine
