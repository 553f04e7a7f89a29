#pragma once
// The events of a made-up run, for the tests of observers.

#include <cmath>
#include <string>

#include "segmamba/engine/observer.h"
#include "segmamba/io/png.h"

namespace segmamba::engine::test_run {

inline RunStarted started(std::int64_t first_iteration = 0) {
  return {.first_iteration = first_iteration,
          .total_iterations = 10,
          .iterations_per_epoch = 5,
          .training_cases = 6,
          .validation_cases = 2,
          .parameters = 1234,
          .batch_size = 2,
          .ranks = 1,
          .device = "cpu",
          .regions = {"WT", "ET"},
          .best_metric = "dice_mean",
          .config = {{"optimizer.name", "sgd"},
                     {"optimizer.learning_rate", "0.01"},
                     {"optimizer.nesterov", "true"},
                     {"validation.every", "4"},
                     {"validation.patches_every", "2"}}};
}

// Loss 1 / iteration, 0.5 s.
inline StepDone step(std::int64_t iteration) {
  return {.iteration = iteration,
          .total_iterations = 10,
          .learning_rate = 0.25,
          .loss = 1 / static_cast<double>(iteration),
          .gradient_norm = 2,
          .seconds = 0.5,
          .data_seconds = 0.125,
          .culprit = {},
          .device_bytes = std::int64_t{3} << 29};
}

inline StepDone skipped_step(std::int64_t iteration) {
  auto event = step(iteration);
  event.loss = NAN;
  event.gradient_norm = INFINITY;
  event.loss_scale = 1024;
  event.culprit = "the input";
  event.skipped = true;
  return event;
}

inline PatchValidationDone patch_validation(std::int64_t iteration) {
  return {.iteration = iteration,
          .patches = 32,
          .scores = {.regions = {"WT", "ET"}, .dice = {0.5, 0.25}, .hd95 = {}},
          .seconds = 1};
}

// The HD95 of ET is not defined.
inline ValidationDone validation(std::int64_t iteration, double dice_wt, bool is_best) {
  const RegionScores first{{"WT", "ET"}, {dice_wt, 0.5}, {4, NAN}};
  const RegionScores second{{"WT", "ET"}, {dice_wt, 0}, {8, NAN}};
  const io::Picture picture(12, 7, {200, 100, 50});
  return {.iteration = iteration,
          .mean = {{"WT", "ET"}, {dice_wt, 0.25}, {6, NAN}},
          .cases = {{"first case", first}, {"second case", second}},
          .pictures = {{"best", "first case", (dice_wt + 0.5) / 2, io::encode_png(picture)},
                       {"worst", "second case", dice_wt / 2, io::encode_png(picture)}},
          .metric = (dice_wt + 0.25) / 2,
          .is_best = is_best,
          .seconds = 20};
}

}  // namespace segmamba::engine::test_run
