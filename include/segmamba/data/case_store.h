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

// From config.cache where it is set, else in config.memory_gb of memory.
std::unique_ptr<CaseStore> open_cases(Dataset dataset, const DataConfig& config,
                                      const PreprocessConfig& preprocess);

}  // namespace segmamba::data
