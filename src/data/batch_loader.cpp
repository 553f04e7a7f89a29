#include "segmamba/data/batch_loader.h"

#include <optional>
#include <system_error>
#include <utility>

#include "segmamba/core/error.h"
#include "segmamba/core/memory.h"

namespace segmamba::data {
namespace {

std::shared_ptr<void> ordinary_memory(std::size_t bytes) {
  constexpr std::align_val_t kAlignment{64};
  std::shared_ptr<void> memory(::operator new(bytes, kAlignment),
                               [](void* p) { ::operator delete(p, kAlignment); });
  prefer_huge_pages(memory.get(), bytes);
  return memory;
}

}  // namespace

BatchLoader::BatchLoader(PatchSource& source, LoaderOptions options, std::int64_t first_iteration,
                         std::int64_t last_iteration)
    : source_(source),
      options_(std::move(options)),
      next_(first_iteration),
      last_(last_iteration),
      claimed_iteration_(first_iteration),
      slots_(static_cast<std::size_t>(batches_held(options_))) {
  const auto& size = source.size();
  const auto voxels = static_cast<std::size_t>(options_.batch_size * volume_of(size));
  const auto values = voxels * static_cast<std::size_t>(source.channels());
  for (auto& slot : slots_) {
    slot.batch.shape = {options_.batch_size, source.channels(), size[0], size[1], size[2]};
    if (!options_.render) {
      slot.batch.cuts.resize(static_cast<std::size_t>(options_.batch_size));
      continue;
    }
    const std::size_t bytes = values * sizeof(float) + voxels;
    slot.memory = options_.allocate ? options_.allocate(bytes) : ordinary_memory(bytes);
    auto* images = static_cast<float*>(slot.memory.get());
    slot.batch.images = {images, values};
    slot.batch.labels = {reinterpret_cast<std::uint8_t*>(images + values), voxels};
  }
  try {
    for (std::int64_t i = 0; i < options_.workers; ++i) threads_.emplace_back([this] { work(); });
  } catch (const std::system_error&) {
    // The system has no more threads: those there are make the same batches, or next() itself.
  } catch (...) {
    stop();
    throw;
  }
}

BatchLoader::~BatchLoader() { stop(); }

std::int64_t BatchLoader::batches_held(const LoaderOptions& options) {
  return options.workers == 0 ? 1 : options.workers / options.batch_size + 3;
}

void BatchLoader::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  for (auto& thread : threads_) thread.join();
}

void BatchLoader::make_sample(Slot& slot, std::int64_t iteration, std::int64_t place,
                              PatchScratch& scratch) {
  const std::int64_t sample =
      (iteration * options_.ranks + options_.rank) * options_.batch_size + place;
  auto drawn = source_.draw(sample);
  if (!options_.render) {
    const Box part = part_inside(*drawn.item, needed_box(drawn.plan, drawn.begin));
    Cut& result = slot.batch.cuts[static_cast<std::size_t>(place)];
    result.part = cut(*drawn.item, part);
    for (std::size_t axis = 0; axis < 3; ++axis) {
      result.begin[axis] = drawn.begin[axis] - part.begin[axis];
    }
    result.plan = std::move(drawn.plan);
    return;
  }
  const auto voxels = volume_of(source_.size());
  render_patch(*drawn.item, drawn.begin, drawn.plan,
               slot.batch.images.data() + place * source_.channels() * voxels,
               slot.batch.labels.data() + place * voxels, scratch);
}

void BatchLoader::work() {
  std::optional<PatchScratch> scratch;  // what fails in a thread must go by a slot
  std::unique_lock lock(mutex_);
  while (true) {
    // The caller still holds the batch before `next_`.
    changed_.wait(lock, [this] {
      return stopping_ || claimed_iteration_ >= last_ ||
             claimed_iteration_ < next_ + static_cast<std::int64_t>(slots_.size()) - 1;
    });
    if (stopping_ || claimed_iteration_ >= last_) return;
    const std::int64_t iteration = claimed_iteration_, place = claimed_place_;
    if (++claimed_place_ == options_.batch_size) {
      ++claimed_iteration_;
      claimed_place_ = 0;
    }
    Slot& slot = slot_of(iteration);
    if (place == 0) {
      slot.iteration = iteration;
      slot.missing = options_.batch_size;
      slot.failure = nullptr;
    }
    lock.unlock();
    std::exception_ptr failure;
    try {
      if (!scratch) scratch.emplace();
      make_sample(slot, iteration, place, *scratch);
    } catch (...) {
      failure = std::current_exception();
    }
    lock.lock();
    if (failure) slot.failure = failure;
    if (--slot.missing == 0) changed_.notify_all();
  }
}

const Batch& BatchLoader::next() {
  if (next_ >= last_) throw Error("the loader has no more batches");
  Slot& slot = slot_of(next_);
  if (threads_.empty()) {
    for (std::int64_t place = 0; place < options_.batch_size; ++place) {
      make_sample(slot, next_, place, scratch_);
    }
  } else {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return slot.iteration == next_ && slot.missing == 0; });
    if (slot.failure) std::rethrow_exception(slot.failure);
  }
  if (options_.on_bad_case) {
    for (const auto& bad : source_.take_bad_cases()) options_.on_bad_case(bad);
  }
  {
    const std::lock_guard lock(mutex_);
    ++next_;
  }
  changed_.notify_all();
  return slot.batch;
}

}  // namespace segmamba::data
