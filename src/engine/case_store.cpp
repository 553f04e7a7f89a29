#include "segmamba/engine/case_store.h"

#include <algorithm>
#include <utility>

#include "segmamba/core/error.h"
#include "segmamba/core/text.h"

namespace segmamba::engine {

CaseStore::CaseStore(std::vector<data::Case> cases, std::uint64_t memory_bytes,
                     std::int64_t classes)
    : cases_(std::move(cases)),
      slots_(cases_.size()),
      memory_bytes_(memory_bytes),
      classes_(classes) {}

std::shared_ptr<const data::CaseData> CaseStore::get(std::size_t index) {
  Slot& slot = slots_.at(index);
  const std::lock_guard lock(slot.mutex);
  if (slot.item) return slot.item;
  auto item = std::make_shared<const data::CaseData>(data::load_case(cases_[index]));
  if (!item->labels.empty()) {
    const int largest = *std::max_element(item->labels.begin(), item->labels.end());
    if (largest >= classes_) {
      throw Error(concat(item->name, ": label ", largest, " needs model.out_channels of at least ",
                         largest + 1, ", the config says ", classes_));
    }
  }
  const std::uint64_t bytes = item->image.size() * sizeof(float) + item->labels.size();
  const std::lock_guard memory_lock(mutex_);
  if (used_bytes_ + bytes <= memory_bytes_) {
    used_bytes_ += bytes;
    slot.item = item;
  }
  return item;
}

}  // namespace segmamba::engine
