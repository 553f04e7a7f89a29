#include "segmamba/engine/batch_loader.h"

#include <numeric>
#include <utility>

#include "segmamba/core/random.h"

namespace segmamba::engine {
namespace {

// Purposes of random numbers in this file: the first step of their path.
enum : std::uint64_t { kOrder = 1, kPatch = 2 };

std::size_t case_of_sample(std::size_t count, std::uint64_t seed, std::int64_t sample) {
  const auto cases = static_cast<std::int64_t>(count);
  std::vector<std::size_t> order(count);
  std::iota(order.begin(), order.end(), 0);
  const auto pass = static_cast<std::uint64_t>(sample / cases);
  auto random = Random::keyed(seed, {kOrder, pass});
  random.shuffle(order);
  return order[sample % cases];
}

}  // namespace

Batch make_batch(CaseStore& cases, const BatchOptions& options, std::int64_t iteration) {
  Batch batch;
  for (std::int64_t b = 0; b < options.batch_size; ++b) {
    const std::int64_t sample = iteration * options.batch_size + b;
    const auto item = cases.get(case_of_sample(cases.size(), options.seed, sample));
    auto random = Random::keyed(options.seed, {kPatch, static_cast<std::uint64_t>(iteration),
                                               static_cast<std::uint64_t>(b)});
    const auto patch = data::sample_patch(*item, options.patch_size, options.augment, random);
    batch.images.insert(batch.images.end(), patch.image.begin(), patch.image.end());
    batch.labels.insert(batch.labels.end(), patch.labels.begin(), patch.labels.end());
    batch.shape = {options.batch_size, patch.channels, patch.size[0], patch.size[1], patch.size[2]};
  }
  return batch;
}

BatchLoader::BatchLoader(CaseStore& cases, BatchOptions options, std::int64_t first_iteration,
                         std::int64_t last_iteration, std::int64_t workers)
    : cases_(cases),
      options_(options),
      next_(first_iteration),
      last_(last_iteration),
      claimed_(first_iteration),
      ahead_(workers + 1) {
  for (std::int64_t i = 0; i < workers; ++i) threads_.emplace_back([this] { work(); });
}

BatchLoader::~BatchLoader() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  for (auto& thread : threads_) thread.join();
}

void BatchLoader::work() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return stopping_ || claimed_ < next_ + ahead_; });
    if (stopping_ || claimed_ >= last_) return;
    const std::int64_t iteration = claimed_++;
    lock.unlock();
    Batch batch;
    std::exception_ptr failure;
    try {
      batch = make_batch(cases_, options_, iteration);
    } catch (...) {
      failure = std::current_exception();
    }
    lock.lock();
    if (failure) {
      failed_[iteration] = failure;
    } else {
      ready_[iteration] = std::move(batch);
    }
    changed_.notify_all();
  }
}

Batch BatchLoader::next() {
  if (threads_.empty()) return make_batch(cases_, options_, next_++);
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return ready_.count(next_) + failed_.count(next_) > 0; });
  if (const auto failure = failed_.find(next_); failure != failed_.end()) {
    std::rethrow_exception(failure->second);
  }
  Batch batch = std::move(ready_.extract(next_).mapped());
  ++next_;
  changed_.notify_all();
  return batch;
}

}  // namespace segmamba::engine
