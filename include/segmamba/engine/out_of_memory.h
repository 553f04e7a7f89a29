#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <exception>
#include <optional>
#include <string>

#include "segmamba/engine/train_config.h"

namespace segmamba::engine {

enum class Memory { kDevice, kHost };

// Which memory `error` says has run out: that of the GPU, of the host, or nullopt where it is about
// something else.
std::optional<Memory> exhausted_memory(const std::exception& error);

// Where `error` says that memory has run out in training: the one line for the user, with the keys
// that would need less and what to set them to:
//   "the GPU cuda:0 is out of memory (1.5 GiB more were asked for): set training.micro_batch_size
//   from 2 to 1, or training.recompute from [] to [all], or ..."
// nullopt where it is about something else. `device` is where the model is trained, `ranks` the
// number of those that share training.batch_size.
std::optional<std::string> out_of_memory_advice(const std::exception& error,
                                                const TrainConfig& config,
                                                const c10::Device& device, std::int64_t ranks = 1);

}  // namespace segmamba::engine
