#include "segmamba/engine/sliding_window.h"

#include <ATen/DeviceAccelerator.h>
#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <span>
#include <string>

#include "segmamba/core/text.h"
#include "segmamba/engine/out_of_memory.h"

namespace segmamba::engine {
namespace {

using Index3 = std::array<std::int64_t, 3>;

Index3 size_of(const at::Tensor& volume) {
  return {volume.size(-3), volume.size(-2), volume.size(-1)};
}

at::Tensor part(const at::Tensor& volume, const Index3& start, const Index3& size) {
  return volume.narrow(-3, start[0], size[0])
      .narrow(-2, start[1], size[1])
      .narrow(-1, start[2], size[2]);
}

// Copies the voxels of image [C, D, H, W] from `begin` on, which may lie outside, into window
// [C, d, h, w].
void cut(const at::Tensor& image, const Index3& begin, const std::vector<float>& padding,
         const at::Tensor& window) {
  const Index3 size = size_of(image), wanted = size_of(window);
  Index3 from{}, to{}, common{};
  for (std::size_t axis = 0; axis < 3; ++axis) {
    from[axis] = std::max<std::int64_t>(begin[axis], 0);
    to[axis] = from[axis] - begin[axis];
    common[axis] = std::min(begin[axis] + wanted[axis], size[axis]) - from[axis];
  }
  if (common != wanted) {
    for (std::int64_t c = 0; c < window.size(0); ++c) {
      window[c].fill_(padding.empty() ? 0 : padding[static_cast<std::size_t>(c)]);
    }
  }
  part(window, to, common).copy_(part(image, from, common));
}

// The weighted means of the windows in a slab of their depth, which moves along D. They are
// updated window by window, m += (x - m) w / W, where W is the sum of the weights so far: windows
// that agree change nothing, however many they are.
class Slab {
 public:
  // importance [d, h, w]; `size` is that of the volume, at least a window's along each axis.
  Slab(const at::Tensor& importance, const Index3& size, const c10::Device& device)
      : importance_(importance.to(device)), size_(size) {
    size_[0] = importance_.size(0);
  }

  // Results [B, K, d, h, w] as add() takes them. All memory that adding needs is taken here.
  at::Tensor prepare(const at::Tensor& results) {
    auto here = results.to(device());
    if (!means_.defined()) {
      const auto options = here.options();
      weights_ = torch::zeros({size_[0], size_[1], size_[2]}, options);
      share_ = torch::empty_like(importance_);
      means_ = torch::zeros({here.size(1), size_[0], size_[1], size_[2]}, options);
    }
    return here;
  }

  // One of prepare(), which is overwritten, of the window whose first voxel is `start`. Each step
  // is rounded: the same bits on every device.
  void add(const at::Tensor& result, Index3 start) {
    start[0] = 0;
    const auto size = size_of(importance_);
    const auto mean = part(means_, start, size), weight = part(weights_, start, size);
    weight.add_(importance_);
    at::div_out(share_, importance_, weight);
    mean.add_(result.sub_(mean).mul_(share_));
  }

  // The first slices, which may be written into.
  at::Tensor first(std::int64_t slices) const { return means_.narrow(1, 0, slices); }

  // Goes on by so many slices.
  void advance(std::int64_t slices) {
    const auto kept = size_[0] - slices;
    for (std::int64_t z = 0; z < kept; ++z) {
      means_.select(1, z).copy_(means_.select(1, z + slices));
      weights_[z].copy_(weights_[z + slices]);
    }
    means_.narrow(1, kept, slices).zero_();
    weights_.narrow(0, kept, slices).zero_();
  }

  c10::Device device() const { return importance_.device(); }
  void move_to_cpu() {
    importance_ = importance_.cpu();
    if (!means_.defined()) return;
    means_ = means_.cpu();
    weights_ = weights_.cpu();
    share_ = share_.cpu();
  }

 private:
  at::Tensor importance_;  // [d, h, w]
  Index3 size_;            // of the slab
  // From the first result on:
  at::Tensor means_;    // [K, d, H, W]
  at::Tensor weights_;  // [d, H, W]
  at::Tensor share_;    // [d, h, w], of the window that is added
};

class Slide {
 public:
  Slide(const at::Tensor& image, const SlidingWindow& options, const WindowFunction& function,
        const MemoryNotice& notice)
      : image_(image),
        options_(options),
        function_(function),
        notice_(notice),
        batch_size_(options.batch_size) {
    auto padded = size_of(image);
    for (std::size_t axis = 0; axis < 3; ++axis) {
      const auto missing = std::max<std::int64_t>(options.window[axis] - padded[axis], 0);
      before_[axis] = missing / 2;
      padded[axis] += missing;
      starts_[axis] = window_starts(padded[axis], options.window[axis], options.overlap);
    }
    slab_.emplace(options.gaussian ? importance_map(options.window, options.sigma_scale)
                                   : torch::ones(options.window),
                  padded, options.sums);
  }

  WindowMemory run(const SliceSink& sink) {
    const auto size = size_of(image_);
    const auto& rows = starts_[0];
    for (std::size_t row = 0; row < rows.size(); ++row) {
      add_row(rows[row]);
      // Padding along D makes one row, whose first slices are none of the image.
      const bool is_last = row + 1 == rows.size();
      const auto end = is_last ? before_[0] + size[0] : rows[row + 1];
      sink(part(slab_->first(end - rows[row]), before_,
                {end - rows[row] - before_[0], size[1], size[2]}),
           rows[row]);
      if (!is_last) slab_->advance(end - rows[row]);
    }
    return {batch_size_, slab_->device()};
  }

 private:
  // All windows that begin in slice z.
  void add_row(std::int64_t z) {
    std::vector<Index3> starts;
    for (const auto y : starts_[1]) {
      for (const auto x : starts_[2]) starts.push_back({z, y, x});
    }
    for (std::size_t first = 0; first < starts.size();) {
      const auto count = std::min(static_cast<std::size_t>(batch_size_), starts.size() - first);
      const auto results = results_of({starts.data() + first, count});
      if (!results.defined()) continue;  // with less memory
      for (std::size_t i = 0; i < count; ++i) {
        slab_->add(results[static_cast<std::int64_t>(i)], starts[first + i]);
      }
      first += count;
    }
  }

  // Undefined where memory ran out, and less is needed from now on.
  at::Tensor results_of(std::span<const Index3> starts) {
    std::string change;
    try {
      return slab_->prepare(function_(windows_at(starts)));
    } catch (const std::exception& error) {
      const auto memory = exhausted_memory(error);
      if (!memory) throw;
      change = need_less(*memory, std::ssize(starts));
      if (change.empty()) throw;
    }
    // Only now that the exception is gone nothing holds on to tensors.
    if (at::accelerator::getAccelerator()) at::accelerator::emptyCache();
    if (notice_) notice_(change);
    return {};
  }

  // What was changed after a pass of so many windows; "" where nothing is left.
  std::string need_less(Memory memory, std::int64_t windows) {
    const std::string what =
        concat(memory == Memory::kDevice ? "the GPU's" : "the machine's", " memory ran out with ",
               windows, windows == 1 ? " window" : " windows", " a pass: going on with ");
    if (windows > 1) {
      batch_size_ = windows / 2;
      return concat(what, batch_size_);
    }
    if (memory == Memory::kDevice && !slab_->device().is_cpu()) {
      slab_->move_to_cpu();
      return concat(what, "sums on the CPU");
    }
    return "";
  }

  at::Tensor windows_at(std::span<const Index3> starts) const {
    const auto& size = options_.window;
    auto windows = torch::empty({std::ssize(starts), image_.size(0), size[0], size[1], size[2]},
                                torch::TensorOptions(image_.device()));
    for (std::size_t i = 0; i < starts.size(); ++i) {
      auto begin = starts[i];
      for (std::size_t axis = 0; axis < 3; ++axis) begin[axis] -= before_[axis];
      cut(image_, begin, options_.padding, windows[static_cast<std::int64_t>(i)]);
    }
    return windows;
  }

  const at::Tensor& image_;
  const SlidingWindow& options_;
  const WindowFunction& function_;
  const MemoryNotice& notice_;
  std::int64_t batch_size_;
  Index3 before_{};  // slices, rows and columns of padding before the image
  std::array<std::vector<std::int64_t>, 3> starts_;
  std::optional<Slab> slab_;
};

}  // namespace

SlidingWindow::SlidingWindow(const InferenceConfig& config, std::array<std::int64_t, 3> window_size)
    : window(window_size),
      overlap(config.overlap),
      gaussian(config.mode == "gaussian"),
      sigma_scale(config.sigma_scale),
      batch_size(config.sw_batch_size) {}

WindowMemory slide_windows(const at::Tensor& image, const SlidingWindow& options,
                           const WindowFunction& function, const SliceSink& sink,
                           const MemoryNotice& notice) {
  return Slide(image, options, function, notice).run(sink);
}

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

std::int64_t window_count(const std::array<std::int64_t, 3>& size,
                          const std::array<std::int64_t, 3>& window, double overlap) {
  std::int64_t count = 1;
  for (std::size_t axis = 0; axis < 3; ++axis) {
    count *= std::ssize(window_starts(size[axis], window[axis], overlap));
  }
  return count;
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

}  // namespace segmamba::engine
