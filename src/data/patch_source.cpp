#include "segmamba/data/patch_source.h"

#include <algorithm>
#include <new>
#include <utility>

#include "segmamba/core/error.h"
#include "segmamba/core/random.h"
#include "segmamba/core/text.h"

namespace segmamba::data {
namespace {

// Purposes of random numbers: the first step of their path. 1 is the sampler's.
enum : std::uint64_t { kPatch = 2, kReplacement = 3 };

}  // namespace

PatchSource::PatchSource(CaseStore& cases, const PatchOptions& options)
    : cases_(cases),
      options_(options),
      is_foreground_(foreground_classes(options.sampling, cases.dataset().classes)),
      channels_(static_cast<std::int64_t>(cases.dataset().channels.size())),
      is_bad_(cases.size(), false) {
  check(options.augment);
  const auto& size = options.size;
  if (*std::min_element(size.begin(), size.end()) < 1) {
    throw Error(concat("data.patch_size must be positive, got ", join(size, "x")));
  }
  if (cases.size() == 0) throw Error("there are no cases to take patches from");
}

std::shared_ptr<const PreparedCase> PatchSource::find_case(std::int64_t sample) {
  std::size_t index = case_of_sample(options_.seed, sample, cases_.size());
  // Counts replacements, not attempts: whoever finds a case to be bad must draw what the others
  // draw.
  std::uint64_t replacements = 0;
  while (true) {
    {
      const std::lock_guard lock(mutex_);
      if (!ended_.empty()) throw Error(ended_);
      if (is_bad_[index]) {
        auto random = Random::keyed(
            options_.seed, {kReplacement, static_cast<std::uint64_t>(sample), ++replacements});
        index = static_cast<std::size_t>(random.integer(static_cast<std::int64_t>(cases_.size())));
        continue;
      }
    }
    try {
      return cases_.get(index);
    } catch (const std::bad_alloc&) {
      throw;  // the machine's trouble: to leave the case out would change the run
    } catch (const std::exception& error) {
      const std::lock_guard lock(mutex_);
      if (is_bad_[index]) continue;
      is_bad_[index] = true;
      bad_.push_back({cases_.dataset().cases[index].name, error.what()});
      reported_.push_back(bad_.back());
      const auto count = static_cast<std::int64_t>(bad_.size());
      if (count > options_.max_bad_cases || bad_.size() == cases_.size()) {
        std::vector<std::string> messages;
        for (const auto& bad : bad_) messages.push_back(bad.message);
        ended_ =
            concat(count, " of ", cases_.size(), " cases cannot be read (data.max_bad_cases is ",
                   options_.max_bad_cases, "): ", join(messages, "; "));
        throw Error(ended_);
      }
    }
  }
}

PatchSource::Drawn PatchSource::draw(std::int64_t sample) {
  Drawn drawn;
  drawn.item = find_case(sample);
  auto random = Random::keyed(options_.seed, {kPatch, static_cast<std::uint64_t>(sample)});
  drawn.begin = draw_place(*drawn.item, options_.size, options_.sampling, is_foreground_, random);
  drawn.plan = draw_augmentation(options_.augment, options_.size, channels_, random);
  return drawn;
}

std::vector<BadCase> PatchSource::take_bad_cases() {
  const std::lock_guard lock(mutex_);
  return std::exchange(reported_, {});
}

}  // namespace segmamba::data
