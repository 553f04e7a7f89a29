#include "segmamba/engine/schedule.h"

#include <algorithm>
#include <cmath>

namespace segmamba::engine {

double learning_rate_at(const ScheduleConfig& schedule, double base, std::int64_t iteration,
                        std::int64_t total) {
  double rate = base;
  if (schedule.name == "polynomial") {
    const double done = static_cast<double>(iteration) / static_cast<double>(total);
    rate *= std::pow(1 - done, schedule.power);
  }
  if (iteration < schedule.warmup_iterations) {
    rate *= static_cast<double>(iteration + 1) / static_cast<double>(schedule.warmup_iterations);
  }
  return rate;
}

}  // namespace segmamba::engine
