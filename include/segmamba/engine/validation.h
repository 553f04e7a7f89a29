#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "segmamba/data/case_store.h"
#include "segmamba/engine/observer.h"
#include "segmamba/engine/predictor.h"
#include "segmamba/metrics/mask.h"

namespace segmamba::engine {

// Dice of each region between two label maps of one size; 1 where a region is empty in both.
RegionDice region_dice(std::span<const std::uint8_t> prediction,
                       std::span<const std::uint8_t> reference,
                       const std::vector<metrics::Region>& regions);

// What validation scores: WT, TC and ET where the classes are those of BraTS, in whatever order;
// otherwise each class but the first.
std::vector<metrics::Region> validation_regions(const std::vector<std::string>& classes);

// Mean Dice over the first `count` cases, segmented whole. `on_case(done)` after each. Cases that
// cannot be read are told to `on_bad_case` and left out; throws Error where none is left.
RegionDice validate(const Predictor& predictor, data::CaseStore& cases, std::int64_t count,
                    const std::function<void(std::int64_t done)>& on_case,
                    const std::function<void(const std::string& message)>& on_bad_case);

}  // namespace segmamba::engine
