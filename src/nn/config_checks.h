#pragma once
// What several networks ask of their config.

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "segmamba/core/error.h"
#include "segmamba/core/text.h"

namespace segmamba::nn {

// The size [D, H, W] that a network is made for, out of the config's list `key`. Throws Error where
// it is not given or no multiple of `multiple`.
inline std::array<std::int64_t, 3> fixed_size(const std::vector<std::int64_t>& sizes,
                                              const std::string& key, std::int64_t multiple = 1) {
  if (sizes.size() != 3) {
    throw Error(concat("model.", key, ": the network is made for inputs of one size [D, H, W], ",
                       sizes.empty() ? "which must be given" : "got [" + join(sizes, ", ") + "]"));
  }
  for (const auto size : sizes) {
    if (size % multiple != 0) {
      throw Error(concat("model.", key, ": each size must be a multiple of ", multiple, ", got [",
                         join(sizes, ", "), "]"));
    }
  }
  return {sizes[0], sizes[1], sizes[2]};
}

// For networks whose original has one output.
inline void refuse_deep_supervision(bool deep_supervision, const std::string& name) {
  if (!deep_supervision) return;
  throw Error(concat("model.deep_supervision: ", name, " has no outputs at coarser resolutions"));
}

}  // namespace segmamba::nn
