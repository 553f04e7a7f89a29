#include "segmamba/data/case_store.h"

#include <utility>

#include "segmamba/core/error.h"
#include "segmamba/core/text.h"

namespace segmamba::data {

CaseStore::CaseStore(Dataset dataset, const PreprocessConfig& config, std::uint64_t memory_bytes)
    : dataset_(std::move(dataset)),
      config_(config),
      slots_(dataset_.cases.size()),
      memory_bytes_(memory_bytes) {}

CaseStore::CaseStore(Dataset dataset, const PreprocessConfig& config,
                     const std::filesystem::path& cache)
    : dataset_(std::move(dataset)),
      config_(config),
      cache_(std::in_place, cache, dataset_, config),
      slots_(dataset_.cases.size()) {}

std::shared_ptr<const PreparedCase> CaseStore::get(std::size_t index) {
  Slot& slot = slots_.at(index);
  const std::lock_guard lock(slot.mutex);
  if (slot.item) return slot.item;
  const Case& item = dataset_.cases[index];
  if (cache_) {
    slot.item = std::make_shared<const PreparedCase>(cache_->open(item.name));
    return slot.item;
  }
  auto prepared =
      std::make_shared<const PreparedCase>(prepare_case(read_case(dataset_, item), config_));
  const std::uint64_t bytes = prepared->image.size_bytes() + prepared->labels.size();
  const std::lock_guard memory_lock(mutex_);
  if (used_bytes_ + bytes <= memory_bytes_) {
    used_bytes_ += bytes;
    slot.item = prepared;
  }
  return prepared;
}

Dataset find_dataset(const DataConfig& config, Labels labels) {
  if (!config.root.empty()) return open_dataset(config, labels);
  if (!config.cache.empty()) {
    return cached_dataset(config.cache, config.channels, config.classes, labels);
  }
  throw Error("data.root is empty: set it in the config, or with --set data.root=FOLDER");
}

FoundSplit find_split(const DataConfig& config, const std::vector<Case>& cases) {
  if (config.split.empty()) {
    return {make_split(cases, static_cast<std::uint64_t>(config.split_seed)),
            concat("70/10/20 by patient, seed ", config.split_seed)};
  }
  return {read_split(config.split, config.fold),
          config.fold < 0 ? config.split : concat("fold ", config.fold, " of ", config.split)};
}

std::unique_ptr<CaseStore> open_cases(Dataset dataset, const DataConfig& config,
                                      const PreprocessConfig& preprocess) {
  if (!config.cache.empty()) {
    return std::make_unique<CaseStore>(std::move(dataset), preprocess,
                                       std::filesystem::path(config.cache));
  }
  const double bytes = config.memory_gb * static_cast<double>(std::uint64_t{1} << 30);
  return std::make_unique<CaseStore>(std::move(dataset), preprocess,
                                     static_cast<std::uint64_t>(bytes));
}

}  // namespace segmamba::data
