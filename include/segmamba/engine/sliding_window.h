#pragma once
// Any function on patches, applied to a whole volume by overlapping windows.

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <functional>
#include <vector>

#include "segmamba/engine/train_config.h"

namespace segmamba::engine {

struct SlidingWindow {
  std::array<std::int64_t, 3> window{};  // [D, H, W]
  double overlap = 0.5;                  // share of the window, below 1
  bool gaussian = true;                  // weight of a window's voxels; false: all equal
  double sigma_scale = 0.125;
  std::int64_t batch_size = 1;  // windows a call
  std::vector<float> padding;   // what is beyond the volume, one value a channel; empty: zeros

  SlidingWindow() = default;
  SlidingWindow(const InferenceConfig& config, std::array<std::int64_t, 3> window);
};

// windows [B, C, d, h, w] -> [B, K, d, h, w]
using WindowFunction = std::function<at::Tensor(const at::Tensor& windows)>;

// image [C, D, H, W] -> [K, D, H, W], the weighted mean of the windows that cover each voxel. A
// volume smaller than the window is padded on both sides and cropped back. The result
// lies where `function` puts its own.
at::Tensor sliding_window(const at::Tensor& image, const SlidingWindow& options,
                          const WindowFunction& function);

// First voxels of the windows along one axis: as few as keep neighbours overlapping by at least
// `overlap`, evenly spread so that the first and last touch the borders (as nnU-Net). {0} where
// size <= window.
std::vector<std::int64_t> window_starts(std::int64_t size, std::int64_t window, double overlap);

// [D, H, W], float: product over the axes of exp(-x^2 / (2 s^2)), x the distance to the window's
// centre and s = sigma_scale * size; at least 1e-3 so that no voxel is lost (as MONAI).
at::Tensor importance_map(std::array<std::int64_t, 3> size, double sigma_scale);

}  // namespace segmamba::engine
