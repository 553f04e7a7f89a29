#pragma once
// Any function on patches, applied to a whole volume by overlapping windows, as a stream of
// finished slices.

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "segmamba/engine/train_config.h"

namespace segmamba::engine {

struct SlidingWindow {
  std::array<std::int64_t, 3> window{};  // [D, H, W]
  double overlap = 0.5;                  // share of the window, below 1
  bool gaussian = true;                  // weight of a window's voxels; false: all equal
  double sigma_scale = 0.125;
  std::int64_t batch_size = 1;   // windows a call, at most
  c10::Device sums = c10::kCPU;  // where windows are added up
  std::vector<float> padding;    // what is beyond the volume, one value a channel; empty: 0

  SlidingWindow() = default;
  SlidingWindow(const InferenceConfig& config, std::array<std::int64_t, 3> window);
};

// windows [B, C, d, h, w] -> [B, K, d, h, w], on any device; both float32, and their receiver's to
// write into.
using WindowFunction = std::function<at::Tensor(const at::Tensor& windows)>;

// Takes slices that are finished, in order: scores [K, n, H, W] of the slices from first_slice on.
// They may be written into, and are gone when it returns.
using SliceSink = std::function<void(const at::Tensor& scores, std::int64_t first_slice)>;

// Told in words what was changed to need less memory.
using MemoryNotice = std::function<void(const std::string& what)>;

// What a slide ended with.
struct WindowMemory {
  std::int64_t batch_size = 1;
  c10::Device sums = c10::kCPU;
};

// Gives the weighted mean of the windows that cover each voxel of image [C, D, H, W] to `sink`. The
// image may be of any type and layout: windows are cut from it a batch at a time, where it lies. A
// volume smaller than the window is padded on both sides and cropped back. Of the sums only those
// of a window's depth are held: (K + 1) * d * H * W floats.
//
// The result depends neither on where sums are kept nor, as far as the function's does not, on the
// batch size. Where memory runs out the batch is tried again in halves, then with the sums on the
// CPU, before the error is let through.
WindowMemory slide_windows(const at::Tensor& image, const SlidingWindow& options,
                           const WindowFunction& function, const SliceSink& sink,
                           const MemoryNotice& notice = {});

// First voxels of the windows along one axis: as few as keep neighbours overlapping by at least
// `overlap`, evenly spread so that the first and last touch the borders (as nnU-Net). {0} where
// size <= window.
std::vector<std::int64_t> window_starts(std::int64_t size, std::int64_t window, double overlap);

// Windows of a volume of `size`.
std::int64_t window_count(const std::array<std::int64_t, 3>& size,
                          const std::array<std::int64_t, 3>& window, double overlap);

// [D, H, W], float: product over the axes of exp(-x^2 / (2 s^2)), x the distance to the window's
// centre and s = sigma_scale * size; at least 1e-3 so that no voxel is lost (as MONAI).
at::Tensor importance_map(std::array<std::int64_t, 3> size, double sigma_scale);

}  // namespace segmamba::engine
