#include "segmamba/engine/training_data.h"

#include <torch/torch.h>

#include <utility>

namespace segmamba::engine {

std::unique_ptr<data::CaseStore> cases_named(const TrainConfig& config,
                                             const data::Dataset& dataset,
                                             const std::vector<std::string>& names,
                                             double memory_share) {
  data::Dataset part = dataset;
  part.cases = data::select_cases(dataset.cases, names, "the split of this run");
  auto data_config = config.data;
  data_config.memory_gb *= memory_share;
  return data::open_cases(std::move(part), data_config, config.preprocess);
}

data::PatchOptions patch_options(const TrainConfig& config) {
  return {.size = config.patch_size(),
          .seed = static_cast<std::uint64_t>(config.training.seed),
          .sampling = config.sampling,
          .augment = config.augment,
          .max_bad_cases = config.data.max_bad_cases};
}

std::function<std::shared_ptr<void>(std::size_t)> batch_memory(const c10::Device& device) {
  if (!device.is_cuda()) return {};
  return [](std::size_t bytes) -> std::shared_ptr<void> {
    const auto options = torch::TensorOptions(torch::kUInt8).pinned_memory(true);
    auto tensor =
        std::make_shared<torch::Tensor>(torch::empty({static_cast<std::int64_t>(bytes)}, options));
    return {tensor, tensor->data_ptr()};
  };
}

}  // namespace segmamba::engine
