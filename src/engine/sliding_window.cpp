#include "segmamba/engine/sliding_window.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>

namespace segmamba::engine {
namespace {

torch::Tensor part(const torch::Tensor& volume, const std::array<std::int64_t, 3>& start,
                   const std::array<std::int64_t, 3>& size) {
  return volume.narrow(-3, start[0], size[0])
      .narrow(-2, start[1], size[1])
      .narrow(-1, start[2], size[2]);
}

std::vector<std::array<std::int64_t, 3>> all_starts(const torch::Tensor& volume,
                                                    const SlidingWindow& options) {
  std::array<std::vector<std::int64_t>, 3> starts;
  for (int axis = 0; axis < 3; ++axis) {
    starts[axis] = window_starts(volume.size(axis + 1), options.window[axis], options.overlap);
  }
  std::vector<std::array<std::int64_t, 3>> all;
  for (const auto z : starts[0]) {
    for (const auto y : starts[1]) {
      for (const auto x : starts[2]) all.push_back({z, y, x});
    }
  }
  return all;
}

}  // namespace

SlidingWindow::SlidingWindow(const InferenceConfig& config, std::array<std::int64_t, 3> window_size)
    : window(window_size),
      overlap(config.overlap),
      gaussian(config.mode == "gaussian"),
      sigma_scale(config.sigma_scale),
      batch_size(config.sw_batch_size) {}

std::vector<std::int64_t> window_starts(std::int64_t size, std::int64_t window, double overlap) {
  if (size <= window) return {0};
  const double step = std::max(1.0, static_cast<double>(window) * (1 - overlap));
  const auto room = static_cast<double>(size - window);
  // Rounding of 1 - overlap must not add a window.
  const auto steps = static_cast<std::int64_t>(std::ceil(room / step - 1e-9));
  std::vector<std::int64_t> starts;
  for (std::int64_t i = 0; i <= steps; ++i) {
    starts.push_back(std::llround(room * static_cast<double>(i) / static_cast<double>(steps)));
  }
  return starts;
}

at::Tensor importance_map(std::array<std::int64_t, 3> size, double sigma_scale) {
  auto map = torch::ones({1, 1, 1});
  for (int axis = 0; axis < 3; ++axis) {
    const double n = static_cast<double>(size[axis]), sigma = sigma_scale * n;
    const auto x = torch::arange(size[axis], torch::kDouble) - (n - 1) / 2;
    std::vector<std::int64_t> shape = {1, 1, 1};
    shape[axis] = size[axis];
    map = map * (-x.square() / (2 * sigma * sigma)).exp().to(torch::kFloat).view(shape);
  }
  return map.clamp_min(1e-3);
}

at::Tensor sliding_window(const at::Tensor& image, const SlidingWindow& options,
                          const WindowFunction& function) {
  std::array<std::int64_t, 3> before{}, after{};
  for (int axis = 0; axis < 3; ++axis) {
    const auto missing = std::max<std::int64_t>(options.window[axis] - image.size(axis + 1), 0);
    before[axis] = missing / 2;
    after[axis] = missing - before[axis];
  }
  const std::vector<std::int64_t> sides = {before[2], after[2],  before[1],
                                           after[1],  before[0], after[0]};
  auto padded = torch::constant_pad_nd(image, sides);
  if (!options.padding.empty() && padded.sizes() != image.sizes()) {
    const auto values = torch::tensor(options.padding, image.options()).view({-1, 1, 1, 1});
    padded = torch::constant_pad_nd(image - values, sides) + values;
  }

  torch::Tensor sum, weights, importance;
  const auto starts = all_starts(padded, options);
  for (std::size_t first = 0; first < starts.size(); first += options.batch_size) {
    const auto last = std::min(first + options.batch_size, starts.size());
    std::vector<torch::Tensor> windows;
    for (auto i = first; i < last; ++i) {
      windows.push_back(part(padded, starts[i], options.window));
    }
    const auto results = function(torch::stack(windows));
    if (!sum.defined()) {
      importance = options.gaussian ? importance_map(options.window, options.sigma_scale)
                                    : torch::ones(options.window);
      importance = importance.to(results.options());
      sum = torch::zeros({results.size(1), padded.size(1), padded.size(2), padded.size(3)},
                         results.options());
      weights =
          torch::zeros({1, padded.size(1), padded.size(2), padded.size(3)}, results.options());
    }
    for (auto i = first; i < last; ++i) {
      part(sum, starts[i], options.window) +=
          results[static_cast<std::int64_t>(i - first)] * importance;
      part(weights, starts[i], options.window) += importance;
    }
  }
  sum /= weights;
  return part(sum, before, {image.size(1), image.size(2), image.size(3)});
}

}  // namespace segmamba::engine
