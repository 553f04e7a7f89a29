#include "segmamba/engine/memory_plan.h"

#include <torch/torch.h>

#include <algorithm>

#include "segmamba/core/error.h"
#include "segmamba/core/text.h"
#include "segmamba/engine/losses.h"
#include "segmamba/nn/cost.h"

namespace segmamba::engine {

std::int64_t optimizer_slots(const OptimizerConfig& config) {
  if (config.name == "adamw") return 2;
  return config.momentum > 0 ? 1 : 0;
}

std::int64_t patches_per_rank(const TrainingConfig& config, std::int64_t ranks) {
  if (config.batch_size % ranks != 0) {
    throw Error(concat("training.batch_size is ", config.batch_size,
                       ": the batch of all GPUs together cannot be shared evenly by ", ranks,
                       "; take a multiple of ", ranks, ", or fewer GPUs"));
  }
  return config.batch_size / ranks;
}

std::int64_t patches_per_pass(const TrainingConfig& config, std::int64_t ranks) {
  const auto share = patches_per_rank(config, ranks);
  return config.micro_batch_size > 0 ? std::min(config.micro_batch_size, share) : share;
}

MemoryPlan plan_memory(const TrainConfig& config, std::int64_t parameters, c10::DeviceType device,
                       std::int64_t ranks) {
  constexpr std::int64_t kBytes = sizeof(float);  // weights are float32 in every precision
  MemoryPlan plan;
  plan.weights = plan.gradients = parameters * kBytes;
  plan.optimizer = optimizer_slots(config.optimizer) * parameters * kBytes;
  plan.average = config.training.ema_decay > 0 ? parameters * kBytes : 0;

  const auto size = config.patch_size();
  const auto batch = patches_per_pass(config.training, ranks);
  nn::TrainingPass pass{.input_sizes = {batch, config.model.in_channels, size[0], size[1], size[2]},
                        .recomputed = config.training.recompute,
                        .device = device};
  if (config.training.precision == "bf16") pass.autocast = torch::kBFloat16;
  if (config.training.precision == "fp16") pass.autocast = torch::kHalf;
  const auto regions = data::parse_regions(config.data.regions, config.data.classes);
  pass.loss = [&](const std::vector<torch::Tensor>& outputs) {
    const auto options = torch::TensorOptions(outputs[0].device()).dtype(torch::kLong);
    const auto labels = torch::empty({batch, size[0], size[1], size[2]}, options);
    // Which outputs count how much changes no memory.
    const std::vector<double> weights(outputs.size(), 1);
    return deep_supervision_loss(config.loss, weights, outputs, labels, regions);
  };
  plan.activations = nn::training_cost(config.model, pass).peak_bytes;
  return plan;
}

}  // namespace segmamba::engine
