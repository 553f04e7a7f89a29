#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "segmamba/data/cases.h"

namespace segmamba::engine {

// Cases by index, read when first asked for and kept while they fit into `memory_bytes`; those
// beyond are read again each time. Safe to use from several threads. Torch-free.
class CaseStore {
 public:
  // Labels must lie below `classes` (checked when a case is read).
  CaseStore(std::vector<data::Case> cases, std::uint64_t memory_bytes, std::int64_t classes);

  std::size_t size() const { return cases_.size(); }
  const data::Case& info(std::size_t index) const { return cases_.at(index); }
  // Throws Error naming the case.
  std::shared_ptr<const data::CaseData> get(std::size_t index);

 private:
  struct Slot {
    std::mutex mutex;
    std::shared_ptr<const data::CaseData> item;
  };

  std::vector<data::Case> cases_;
  std::vector<Slot> slots_;
  std::uint64_t memory_bytes_;
  std::int64_t classes_;
  std::mutex mutex_;
  std::uint64_t used_bytes_ = 0;
};

}  // namespace segmamba::engine
