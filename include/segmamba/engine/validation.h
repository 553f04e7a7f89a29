#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "segmamba/data/case_store.h"
#include "segmamba/engine/observer.h"
#include "segmamba/engine/predictor.h"

namespace segmamba::engine {

// Dice of WT, TC and ET between two BraTS label maps of one size; 1 where a region is empty in
// both.
RegionDice region_dice(std::span<const std::uint8_t> prediction,
                       std::span<const std::uint8_t> reference);

// Mean Dice over the first `count` cases, segmented whole. `on_case(done)` after each. Cases that
// cannot be read are told to `on_bad_case` and left out; throws Error where none is left.
RegionDice validate(const Predictor& predictor, data::CaseStore& cases, std::int64_t count,
                    const std::function<void(std::int64_t done)>& on_case,
                    const std::function<void(const std::string& message)>& on_bad_case);

}  // namespace segmamba::engine
