#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "segmamba/engine/case_store.h"
#include "segmamba/engine/observer.h"
#include "segmamba/engine/predictor.h"

namespace segmamba::engine {

// Dice of WT, TC and ET between two BraTS label maps of one size; 1 where a region is empty in
// both.
RegionDice region_dice(const std::vector<std::uint8_t>& prediction,
                       const std::vector<std::uint8_t>& reference);

// Mean Dice over the first `count` cases, segmented whole. `on_case(done)` after each.
RegionDice validate(const Predictor& predictor, CaseStore& cases, std::int64_t count,
                    const std::function<void(std::int64_t done)>& on_case);

}  // namespace segmamba::engine
