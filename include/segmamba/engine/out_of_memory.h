#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <exception>
#include <optional>
#include <string>

#include "segmamba/engine/train_config.h"

namespace segmamba::engine {

// Whether `error` says that memory has run out, of the GPU or of the host: then the one line for
// the user, with the keys that would need less and what to set them to:
//   "the GPU cuda:0 is out of memory (1.5 GiB more were asked for): set training.micro_batch_size
//   from 2 to 1, or training.recompute from [] to [all], or ..."
// nullopt where it is about something else. `device` is where the model is trained, `ranks` the
// number of those that share training.batch_size.
std::optional<std::string> out_of_memory_advice(const std::exception& error,
                                                const TrainConfig& config,
                                                const c10::Device& device, std::int64_t ranks = 1);

}  // namespace segmamba::engine
