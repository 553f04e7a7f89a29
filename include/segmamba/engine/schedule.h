#pragma once

#include <cstdint>

#include "segmamba/engine/train_config.h"

namespace segmamba::engine {

// The learning rate of iteration i of `total`, i = 0 first:
//   polynomial: base * (1 - i / total)^power;  constant: base;
// during the first warmup_iterations w times (i + 1) / w.
double learning_rate_at(const ScheduleConfig& schedule, double base, std::int64_t iteration,
                        std::int64_t total);

}  // namespace segmamba::engine
