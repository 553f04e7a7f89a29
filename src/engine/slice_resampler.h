#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>

#include "segmamba/engine/sliding_window.h"

namespace segmamba::engine {

// Resamples a volume that comes slice by slice to another grid with the same faces, trilinear, as
// at::upsample_trilinear3d without align_corners; two slices of the new size are held.
class SliceResampler {
 public:
  // Sizes [D, H, W]; `sink` gets new slices one by one.
  SliceResampler(const std::array<std::int64_t, 3>& from, const std::array<std::int64_t, 3>& to,
                 SliceSink sink);

  // The next slices, [K, n, h, w].
  void add(const at::Tensor& slices);

 private:
  void add_slice(const at::Tensor& slice);

  std::int64_t from_, to_;             // slices
  std::array<std::int64_t, 2> plane_;  // [H, W] of the new grid
  SliceSink sink_;
  at::Tensor before_, last_;            // [1, K, H, W], of the slices added last
  std::int64_t added_ = 0, given_ = 0;  // slices
};

}  // namespace segmamba::engine
