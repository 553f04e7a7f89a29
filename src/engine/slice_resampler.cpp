#include "slice_resampler.h"

#include <torch/torch.h>

#include <algorithm>
#include <utility>

namespace segmamba::engine {

SliceResampler::SliceResampler(const std::array<std::int64_t, 3>& from,
                               const std::array<std::int64_t, 3>& to, SliceSink sink)
    : from_(from[0]), to_(to[0]), plane_{to[1], to[2]}, sink_(std::move(sink)) {}

void SliceResampler::add(const at::Tensor& slices) {
  for (std::int64_t z = 0; z < slices.size(1); ++z) add_slice(slices.select(1, z));
}

void SliceResampler::add_slice(const at::Tensor& slice) {
  before_ = std::exchange(
      last_, at::upsample_bilinear2d(slice.unsqueeze(0), plane_, /*align_corners=*/false));
  const auto last = added_++;
  const auto scale = static_cast<float>(from_) / static_cast<float>(to_);
  for (; given_ < to_; ++given_) {
    const auto place = std::max((static_cast<float>(given_) + 0.5F) * scale - 0.5F, 0.0F);
    const auto lower = static_cast<std::int64_t>(place);
    const auto upper = std::min(lower + 1, from_ - 1);
    if (upper > last) return;
    const auto& start = lower == last ? last_ : before_;
    const auto mixed = at::lerp(start, last_, place - static_cast<float>(lower));
    sink_(mixed.transpose(0, 1), given_);  // [K, 1, H, W]
  }
}

}  // namespace segmamba::engine
