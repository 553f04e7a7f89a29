#pragma once

#include <cstdint>

#include "segmamba/engine/train_config.h"

namespace segmamba::engine {

// The learning rate of iteration i of `total`, i = 0 first: end + (base - end) * s with
// end = final_learning_rate and
//   polynomial: s = (1 - i / total)^power;  cosine: s = (1 + cos(pi i / total)) / 2;  constant: 1;
// during the first warmup_iterations w times (i + 1) / w. Cosine: Loshchilov and Hutter, "SGDR",
// ICLR 2017, without restarts.
double learning_rate_at(const ScheduleConfig& schedule, double base, std::int64_t iteration,
                        std::int64_t total);

}  // namespace segmamba::engine
