#pragma once

#include <cstdint>
#include <ostream>
#include <string>

#include "segmamba/engine/train_config.h"

namespace segmamba::engine {

// Prints what a run of the config would be before anything is started, and writes no file: the data
// set, the keys that differ from their defaults (with `every_key` all), the model, the memory it is
// predicted to take beside that of the device, and the time of an epoch, of validation and of the
// whole run, from a few real steps with real patches. Of several `ranks`, all on this machine, it
// is one that is predicted and timed, with its share of the batch and alone: how long gradients
// travel, and what the ranks take from each other, is not in the times. Throws Error as Trainer
// would, and with advice where memory runs out.
void dry_run(const TrainConfig& config, const std::string& device, bool every_key,
             std::ostream& out, std::int64_t ranks = 1);

}  // namespace segmamba::engine
