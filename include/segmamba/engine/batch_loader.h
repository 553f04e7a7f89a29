#pragma once
// Training batches, prepared ahead by worker threads. Torch-free.

#include <array>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

#include "segmamba/data/augment.h"
#include "segmamba/engine/case_store.h"

namespace segmamba::engine {

struct Batch {
  std::array<std::int64_t, 5> shape{};  // [B, C, D, H, W] of images
  std::vector<float> images;            // [B, C, D, H, W]
  std::vector<std::uint8_t> labels;     // [B, D, H, W]
};

struct BatchOptions {
  std::array<std::int64_t, 3> patch_size{};  // [D, H, W]
  std::int64_t batch_size = 2;
  std::uint64_t seed = 0;
  data::AugmentConfig augment;
};

// The batch of one iteration: a function of its arguments alone. Sample s of the run (s = iteration
// * batch_size + b) takes the case at place s mod N of a shuffle of the N cases drawn anew for
// each pass s / N, so that all cases are seen equally often.
Batch make_batch(CaseStore& cases, const BatchOptions& options, std::int64_t iteration);

// make_batch for consecutive iterations, computed ahead by `workers` threads (0: on demand).
class BatchLoader {
 public:
  BatchLoader(CaseStore& cases, BatchOptions options, std::int64_t first_iteration,
              std::int64_t last_iteration, std::int64_t workers);
  ~BatchLoader();
  BatchLoader(const BatchLoader&) = delete;
  BatchLoader& operator=(const BatchLoader&) = delete;

  // The next batch. Throws what preparing it threw.
  Batch next();

 private:
  void work();

  CaseStore& cases_;
  BatchOptions options_;
  std::int64_t next_, last_, claimed_, ahead_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::int64_t, Batch> ready_;
  std::map<std::int64_t, std::exception_ptr> failed_;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace segmamba::engine
