#include "segmamba/engine/inference_memory.h"

#include <malloc.h>

#include <algorithm>

#include "segmamba/core/error.h"
#include "segmamba/core/memory.h"
#include "segmamba/core/text.h"

namespace segmamba::engine {
namespace {

constexpr std::int64_t kFloat = 4, kHalf = 2, kLabel = 1;

std::int64_t voxels(const std::array<std::int64_t, 3>& size) { return size[0] * size[1] * size[2]; }

// A voxel of all maps that are asked for.
std::int64_t map_bytes(const InferenceTask& task) {
  return kLabel + (task.probabilities ? task.outputs * kHalf : 0) +
         (task.uncertainty ? 2 * kHalf : 0);
}

// Making maps of a few finished slices (kChunkVoxels), and resampling them.
std::int64_t slice_bytes(const InferenceTask& task) {
  const auto plane = std::max(task.prepared[1] * task.prepared[2], task.crop[1] * task.crop[2]);
  const auto volume = std::max(voxels(task.prepared), voxels(task.crop));
  const auto chunk = std::clamp(kChunkVoxels, plane, volume);
  const auto resampling = task.prepared == task.crop ? 0 : 3 * plane * task.score_channels;
  return (3 * task.score_channels * chunk + resampling) * kFloat;
}

std::int64_t sum_bytes(const InferenceTask& task) {
  std::array<std::int64_t, 3> slab = task.window;
  for (const std::size_t axis : {1, 2}) slab[axis] = std::max(slab[axis], task.prepared[axis]);
  return (voxels(slab) * (task.score_channels + 1) + 2 * voxels(task.window)) * kFloat;
}

// Of one window beside the forward pass: its results while they are mirrored and averaged.
std::int64_t window_bytes(const InferenceTask& task) {
  const auto results = 3 * task.score_channels + (task.uncertainty ? 2 * task.outputs : 0);
  return voxels(task.window) * (task.channels + results) * kFloat;
}

std::string in_units(std::int64_t bytes) {
  return format_bytes(static_cast<std::uint64_t>(std::max<std::int64_t>(bytes, 0)));
}

std::string complaint(const std::string& memory, std::int64_t limit, std::int64_t before,
                      std::int64_t bytes) {
  return concat(in_units(before + bytes), " of ", memory, " (", in_units(before),
                " of it before it starts), and the limit is ", in_units(limit),
                ": raise the limit");
}

}  // namespace

InferenceBytes inference_bytes(const InferenceTask& task, std::int64_t window_batch,
                               bool sums_on_host) {
  const auto computing = window_batch * (task.pass_bytes + window_bytes(task));
  const auto sums = sum_bytes(task) + slice_bytes(task);
  InferenceBytes bytes;
  bytes.host = voxels(task.grid) * map_bytes(task);
  if (!task.on_gpu) {
    bytes.host += computing + sums;
    return bytes;
  }
  bytes.device = computing + (sums_on_host ? 0 : sums);
  // Windows on their way to the GPU, and what comes back.
  const auto coming_back = sums_on_host ? task.score_channels : 0;
  bytes.host += window_batch * voxels(task.window) * (task.channels + coming_back) * kFloat;
  bytes.host += sums_on_host ? sums : slice_bytes(task);
  return bytes;
}

InferencePlan plan_inference(const InferenceTask& task, const MemoryLimits& limits,
                             const InferenceBytes& held, std::int64_t window_batch) {
  const auto plan_of = [&](std::int64_t batch, bool sums_on_host) {
    return InferencePlan{batch, sums_on_host, inference_bytes(task, batch, sums_on_host)};
  };
  const auto keeps = [](std::int64_t limit, std::int64_t bytes) {
    return limit == 0 || bytes <= limit;
  };
  const auto fits = [&](const InferencePlan& plan) {
    return keeps(limits.host, held.host + plan.bytes.host) &&
           keeps(limits.device, held.device + plan.bytes.device);
  };
  // Sums on the host cost a copy of each result: rather that than half the batch.
  for (auto batch = window_batch; batch >= 1; batch /= 2) {
    for (const bool sums_on_host : {false, true}) {
      if (!sums_on_host && !task.on_gpu) continue;
      const auto plan = plan_of(batch, sums_on_host);
      if (fits(plan)) return plan;
    }
  }
  const auto least = plan_of(1, true).bytes;
  const bool is_device = keeps(limits.host, held.host + least.host);
  throw Error(concat("segmenting takes at least ",
                     is_device
                         ? complaint("the GPU's memory", limits.device, held.device, least.device)
                         : complaint("this machine's memory", limits.host, held.host, least.host),
                     ", ", ways_to_need_less(task.window)));
}

void check_images_fit(const MemoryLimits& limits, std::int64_t bytes) {
  const auto before = resident_bytes();
  if (limits.host == 0 || before + bytes <= limits.host) return;
  throw Error(concat("to read its images takes at least ",
                     complaint("this machine's memory", limits.host, before, bytes)));
}

std::string ways_to_need_less(const std::array<std::int64_t, 3>& window) {
  return concat("ask for fewer maps, or take a smaller window (data.patch_size is [",
                join(window, ", "), "])");
}

std::int64_t resident_bytes() {
  malloc_trim(0);
  return static_cast<std::int64_t>(resident_memory().now);
}

}  // namespace segmamba::engine
