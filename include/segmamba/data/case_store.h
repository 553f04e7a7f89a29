#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "segmamba/data/cache.h"
#include "segmamba/data/data_config.h"
#include "segmamba/data/prepared_case.h"
#include "segmamba/data/preprocess.h"
#include "segmamba/data/split.h"

namespace segmamba::data {

// Prepared cases by index. Safe to use from several threads.
class CaseStore {
 public:
  // Prepares a case when it is first asked for and keeps it while all kept ones fit into
  // `memory_bytes`; those beyond are prepared again each time.
  CaseStore(Dataset dataset, const PreprocessConfig& config, std::uint64_t memory_bytes);
  // Maps the cases of a cache: the same voxels, and the memory is the system's file cache. Throws
  // Error as Cache does.
  CaseStore(Dataset dataset, const PreprocessConfig& config, const std::filesystem::path& cache);

  std::size_t size() const { return dataset_.cases.size(); }
  const Dataset& dataset() const { return dataset_; }
  // Throws Error naming the case where it cannot be prepared or mapped.
  std::shared_ptr<const PreparedCase> get(std::size_t index);

 private:
  struct Slot {
    std::mutex mutex;
    std::shared_ptr<const PreparedCase> item;
  };

  Dataset dataset_;
  PreprocessConfig config_;
  std::optional<Cache> cache_;
  std::vector<Slot> slots_;
  std::uint64_t memory_bytes_ = 0;
  std::mutex mutex_;
  std::uint64_t used_bytes_ = 0;
};

// The cases in config.root, or where that is empty those of config.cache. Throws Error as
// open_dataset() and cached_dataset().
Dataset find_dataset(const DataConfig& config, Labels labels);

// The split that config.split names, or 70/10/20 by config.split_seed, and which of them it is, in
// words. Throws Error as read_split().
struct FoundSplit {
  Split split;
  std::string origin;
};
FoundSplit find_split(const DataConfig& config, const std::vector<Case>& cases);

// From config.cache where it is set, else in config.memory_gb of memory.
std::unique_ptr<CaseStore> open_cases(Dataset dataset, const DataConfig& config,
                                      const PreprocessConfig& preprocess);

}  // namespace segmamba::data
