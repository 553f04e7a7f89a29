#pragma once
// From a config to the cases and batches of its run.

#include <c10/core/Device.h>

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "segmamba/data/case_store.h"
#include "segmamba/data/patch_source.h"
#include "segmamba/engine/train_config.h"

namespace segmamba::engine {

// The cases with these names, with a share of data.memory_gb. Throws Error where one is not in the
// data set.
std::unique_ptr<data::CaseStore> cases_named(const TrainConfig& config,
                                             const data::Dataset& dataset,
                                             const std::vector<std::string>& names,
                                             double memory_share);

data::PatchOptions patch_options(const TrainConfig& config);

// Memory for LoaderOptions::allocate that the device can read while the host goes on.
std::function<std::shared_ptr<void>(std::size_t bytes)> batch_memory(const c10::Device& device);

}  // namespace segmamba::engine
