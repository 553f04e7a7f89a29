#include "segmamba/engine/classes.h"

#include <torch/torch.h>

namespace segmamba::engine {

at::Tensor classes_of(const at::Tensor& scores, const std::vector<data::Region>& regions,
                      double threshold) {
  constexpr std::int64_t kOutputs = -4;  // the dimension of outputs
  const auto score = [&](std::size_t i) {
    return scores.select(kOutputs, static_cast<std::int64_t>(i));
  };
  auto classes = torch::zeros_like(score(0), torch::TensorOptions(torch::kUInt8));
  for (std::size_t i = 0; i < regions.size(); ++i) {
    classes.masked_fill_(score(i) > threshold, regions[i].painted);
  }
  if (!regions.empty()) return classes;
  // Several times faster than argmax, which is slow along a dimension that is not the last.
  auto greatest = score(0);
  for (std::size_t i = 1; i < static_cast<std::size_t>(scores.size(kOutputs)); ++i) {
    classes.masked_fill_(score(i) > greatest, static_cast<std::int64_t>(i));
    greatest = torch::maximum(greatest, score(i));
  }
  return classes;
}

}  // namespace segmamba::engine
