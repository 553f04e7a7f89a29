#pragma once
// What a training run takes of its device's memory, before it starts.

#include <c10/core/DeviceType.h>

#include <cstdint>

#include "segmamba/engine/train_config.h"

namespace segmamba::engine {

// Bytes of tensors. CUDA itself, the workspaces of cuDNN or oneDNN and what the allocator cannot
// use come on top.
struct MemoryPlan {
  std::int64_t weights = 0, gradients = 0;
  std::int64_t optimizer = 0;    // its running averages
  std::int64_t average = 0;      // of the weights (training.ema_decay)
  std::int64_t activations = 0;  // the largest sum of all others, in forward and backward pass

  std::int64_t total() const { return weights + gradients + optimizer + average + activations; }
};

// Numbers that the optimizer keeps for each parameter.
std::int64_t optimizer_slots(const OptimizerConfig& config);

// Patches of each update that one of `ranks` takes. Throws Error where they cannot be shared
// evenly.
std::int64_t patches_per_rank(const TrainingConfig& config, std::int64_t ranks);

// Patches that one forward pass of one of `ranks` takes.
std::int64_t patches_per_pass(const TrainingConfig& config, std::int64_t ranks = 1);

// Of one of `ranks` on a device of this kind, whose model has so many parameters. Computes shapes
// only. Throws Error as the model and patches_per_rank where the config does not fit.
MemoryPlan plan_memory(const TrainConfig& config, std::int64_t parameters, c10::DeviceType device,
                       std::int64_t ranks = 1);

}  // namespace segmamba::engine
