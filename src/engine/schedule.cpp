#include "segmamba/engine/schedule.h"

#include <cmath>
#include <numbers>

namespace segmamba::engine {

double learning_rate_at(const ScheduleConfig& schedule, double base, std::int64_t iteration,
                        std::int64_t total) {
  const double done = static_cast<double>(iteration) / static_cast<double>(total);
  double share = 1;
  if (schedule.name == "polynomial") share = std::pow(1 - done, schedule.power);
  if (schedule.name == "cosine") share = (1 + std::cos(std::numbers::pi * done)) / 2;
  const double end = schedule.final_learning_rate;
  double rate = end + (base - end) * share;
  if (iteration < schedule.warmup_iterations) {
    rate *= static_cast<double>(iteration + 1) / static_cast<double>(schedule.warmup_iterations);
  }
  return rate;
}

}  // namespace segmamba::engine
