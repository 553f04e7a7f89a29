#pragma once
// Training batches, prepared ahead by worker threads.

#include <array>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "segmamba/data/patch_source.h"

namespace segmamba::data {

// What a device needs to make a patch: the part of the case that it reads, where the patch begins
// in it, and what was drawn.
struct Cut {
  PreparedCase part;
  Index3 begin{};
  AugmentPlan plan;
};

// Views of memory that the loader owns.
struct Batch {
  std::array<std::int64_t, 5> shape{};  // [B, C, D, H, W] of images
  std::span<float> images;              // [B, C, D, H, W]
  std::span<std::uint8_t> labels;       // [B, D, H, W]
  std::vector<Cut> cuts;  // [B], where LoaderOptions::render is false, and nothing else
};

struct LoaderOptions {
  std::int64_t batch_size = 2;  // of this rank
  // Rank r of n takes the samples of iteration i from (i * n + r) * batch_size on: together the
  // ranks see what one would see with a batch n times as large, no sample twice.
  std::int64_t rank = 0, ranks = 1;
  bool render = true;        // false: batches hold cuts, to be augmented by a device
  std::int64_t workers = 0;  // 0: batches are made when they are asked for
  // Where batches lie, for memory that a device can read (pinned). Empty: ordinary memory.
  std::function<std::shared_ptr<void>(std::size_t bytes)> allocate = {};
  // Told of each bad case once, in next().
  std::function<void(const BadCase&)> on_bad_case = {};
};

class BatchLoader {
 public:
  // Batches of the iterations in [first, last). Memory: batches_held(options) batches, and what a
  // worker needs for one patch.
  BatchLoader(PatchSource& source, LoaderOptions options, std::int64_t first_iteration,
              std::int64_t last_iteration);
  ~BatchLoader();
  BatchLoader(const BatchLoader&) = delete;
  BatchLoader& operator=(const BatchLoader&) = delete;

  // How many batches a loader with these options has in memory: where workers prepare them, one
  // that the caller has, one that is ready, and those in the making.
  static std::int64_t batches_held(const LoaderOptions& options);

  // The next batch, valid until the next call. Throws what preparing it threw.
  const Batch& next();

 private:
  struct Slot {
    Batch batch;
    std::shared_ptr<void> memory;
    std::int64_t iteration = -1;
    std::int64_t missing = 0;  // samples that are not ready
    std::exception_ptr failure;
  };

  Slot& slot_of(std::int64_t iteration) {
    return slots_[static_cast<std::size_t>(iteration) % slots_.size()];
  }
  void make_sample(Slot& slot, std::int64_t iteration, std::int64_t place, PatchScratch& scratch);
  void work();
  void stop();

  PatchSource& source_;
  LoaderOptions options_;
  std::int64_t next_, last_;
  std::int64_t claimed_iteration_, claimed_place_ = 0;  // the next sample that a worker takes
  std::vector<Slot> slots_;
  PatchScratch scratch_;  // without workers
  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace segmamba::data
