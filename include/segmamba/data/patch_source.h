#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "segmamba/data/augment.h"
#include "segmamba/data/case_store.h"
#include "segmamba/data/sampler.h"

namespace segmamba::data {

struct PatchOptions {
  Index3 size{};  // [D, H, W]
  std::uint64_t seed = 0;
  SamplingConfig sampling = {};
  AugmentConfig augment = {};
  // Cases that may turn out unreadable before the run ends: each is left out, and another case
  // takes its turn.
  std::int64_t max_bad_cases = 0;
};

struct BadCase {
  std::string name, message;
};

// The patches of a run by number: patch s is the same whoever asks for it, and when.
class PatchSource {
 public:
  // Throws Error where the options contradict themselves or the classes of the cases.
  PatchSource(CaseStore& cases, const PatchOptions& options);

  // What patch `sample` shows: everything random about it.
  struct Drawn {
    std::shared_ptr<const PreparedCase> item;
    Index3 begin{};
    AugmentPlan plan;
  };
  // Throws Error where more than max_bad_cases cases (or all) cannot be read, naming them.
  Drawn draw(std::int64_t sample);

  // The bad cases found since the last call.
  std::vector<BadCase> take_bad_cases();

  std::int64_t channels() const { return channels_; }
  const Index3& size() const { return options_.size; }

 private:
  std::shared_ptr<const PreparedCase> find_case(std::int64_t sample);

  CaseStore& cases_;
  PatchOptions options_;
  std::vector<bool> is_foreground_;
  std::int64_t channels_;
  std::mutex mutex_;
  std::vector<bool> is_bad_;
  std::vector<BadCase> bad_, reported_;
  std::string ended_;  // why no more patches can be drawn
};

}  // namespace segmamba::data
