#pragma once
// What a prediction takes of memory, before it starts, and how it is kept within limits.

#include <array>
#include <cstdint>
#include <string>

namespace segmamba::engine {

// Bytes; 0: no limit. Host: all that the process holds, what it held before included. Device: what
// LibTorch and CUDA take of the GPU.
struct MemoryLimits {
  std::int64_t host = 0, device = 0;
};

// Finished slices become labels and maps so many voxels at a time, or one slice.
inline constexpr std::int64_t kChunkVoxels = std::int64_t{1} << 20;

// A prediction as far as it decides memory. Sizes are [D, H, W].
struct InferenceTask {
  std::array<std::int64_t, 3> window{}, prepared{}, crop{}, grid{};
  std::int64_t channels = 0;                        // of the image
  std::int64_t outputs = 0;                         // of the model
  std::int64_t score_channels = 0;                  // outputs, and what uncertainty keeps beside
  bool probabilities = false, uncertainty = false;  // maps asked for
  bool on_gpu = false;
  // Tensors of a forward pass of one window, input and output included (nn::forward_cost).
  std::int64_t pass_bytes = 0;
};

// Bytes of tensors and maps at their peak, beside models and image. Workspaces of the libraries
// beneath (cuDNN, oneDNN) and what an allocator cannot use come on top.
struct InferenceBytes {
  std::int64_t host = 0, device = 0;
};
InferenceBytes inference_bytes(const InferenceTask& task, std::int64_t window_batch,
                               bool sums_on_host);

struct InferencePlan {
  std::int64_t window_batch = 1;
  bool sums_on_host = true;  // without a GPU always
  InferenceBytes bytes;
};

// The largest window batch up to `window_batch` that keeps the limits, on a GPU with the sums there
// if they fit; `held` is what is taken before: models, image, the program itself. Throws Error with
// the least that would do where nothing fits.
InferencePlan plan_inference(const InferenceTask& task, const MemoryLimits& limits,
                             const InferenceBytes& held, std::int64_t window_batch);

// Throws Error where `bytes` of images, beside what the process holds now, do not keep limits.host.
void check_images_fit(const MemoryLimits& limits, std::int64_t bytes);

// For the user: "ask for fewer maps, or take a smaller window (data.patch_size is [128, 128,
// 128])".
std::string ways_to_need_less(const std::array<std::int64_t, 3>& window);

// What the process holds of the host's memory now, after free memory was given back.
std::int64_t resident_bytes();

}  // namespace segmamba::engine
