#include "segmamba/engine/device.h"

#include <ATen/DeviceAccelerator.h>
#include <torch/torch.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <thread>
#include <vector>

#include "segmamba/core/error.h"
#include "segmamba/core/log.h"
#include "segmamba/core/memory.h"
#include "segmamba/core/parallel.h"
#include "segmamba/core/text.h"

#ifdef SEGMAMBA_WITH_CUDA
#include <c10/cuda/CUDACachingAllocator.h>
#endif

namespace segmamba::engine {
namespace {

// About what a process takes of a GPU before its first tensor: CUDA's context, kernels, cuBLAS.
constexpr std::int64_t kContextBytes = std::int64_t{512} << 20;

constexpr auto kAll = static_cast<std::size_t>(c10::CachingAllocator::StatType::AGGREGATE);

c10::DeviceIndex index_of(const c10::Device& device) {
  return device.has_index() ? device.index() : c10::DeviceIndex{0};
}

}  // namespace

std::int64_t gpu_count() {
  // LibTorch's count is one byte, which prints as a character.
  return static_cast<unsigned char>(torch::cuda::device_count());
}

c10::Device select_device(const std::string& name) {
  if (name == "cpu") return torch::kCPU;
  if (name == "auto") return torch::cuda::is_available() ? torch::kCUDA : torch::kCPU;
  if (name == "cuda" || starts_with(name, "cuda:")) {
    if (!torch::cuda::is_available()) {
      throw Error("--device " + name + ": there is no usable NVIDIA GPU; take cpu or auto");
    }
    const std::string index = name == "cuda" ? "0" : name.substr(5);
    const bool is_number = !index.empty() && index.size() < 4 &&
                           index.find_first_not_of("0123456789") == std::string::npos;
    if (is_number && std::stoi(index) < gpu_count()) {
      return {torch::kCUDA, static_cast<c10::DeviceIndex>(std::stoi(index))};
    }
    throw Error(concat("--device ", name, ": there are ", gpu_count(), " GPUs, counted from 0"));
  }
  throw UsageError("--device " + name + ": expected auto, cpu, cuda or cuda:N");
}

void tune_convolutions(bool tunes) { at::globalContext().setBenchmarkCuDNN(tunes); }

std::int64_t most_memory_taken(const c10::Device& device) {
  if (device.is_cpu()) return static_cast<std::int64_t>(resident_memory().peak);
  return at::accelerator::getDeviceStats(index_of(device)).reserved_bytes[kAll].peak;
}

std::int64_t device_bytes_held(const c10::Device& device) {
  if (device.is_cpu()) return 0;
  const auto stats = at::accelerator::getDeviceStats(index_of(device));
  return stats.allocated_bytes[kAll].current + kContextBytes;
}

void limit_device_memory(const c10::Device& device, std::int64_t bytes) {
#ifdef SEGMAMBA_WITH_CUDA
  if (device.is_cpu()) return;
  const auto all = static_cast<double>(device_memory(device).all);
  const auto left = static_cast<double>(std::max<std::int64_t>(bytes - kContextBytes, 0));
  c10::cuda::CUDACachingAllocator::setMemoryFraction(std::min(left / all, 1.0), index_of(device));
#else
  static_cast<void>(device);
  static_cast<void>(bytes);
#endif
}

DeviceMemory device_memory(const c10::Device& device) {
  DeviceMemory memory;
  memory.most_taken = most_memory_taken(device);
  if (device.is_cpu()) {
    const std::int64_t page = sysconf(_SC_PAGESIZE);
    memory.all = sysconf(_SC_PHYS_PAGES) * page;
    memory.free = sysconf(_SC_AVPHYS_PAGES) * page;
    return memory;
  }
  const auto [free, all] = at::accelerator::getMemoryInfo(index_of(device));
  memory.all = static_cast<std::int64_t>(all);
  memory.free = static_cast<std::int64_t>(free);
  return memory;
}

namespace {

// Whether the system gives so many threads at once.
bool can_start(int threads) {
  std::atomic<bool> may_end{false};
  bool all = true;
  std::vector<std::jthread> started;
  started.reserve(static_cast<std::size_t>(threads));
  try {
    for (int i = 0; i < threads; ++i) started.emplace_back([&may_end] { may_end.wait(false); });
  } catch (const std::exception&) {
    all = false;
  }
  may_end = true;
  may_end.notify_all();
  return all;
}

}  // namespace

void set_compute_threads(std::int64_t count, std::int64_t processes) {
  if (count == 0 && processes > 1) count = std::max<std::int64_t>(thread_count() / processes, 1);
  if (count > 0) set_thread_count(static_cast<int>(count));
  // LibTorch starts two pools of threads, and where one of them does not start it waits for it
  // without end.
  constexpr int kPools = 2;
  const int wanted = thread_count();
  while (thread_count() > 1 && !can_start(kPools * thread_count())) {
    set_thread_count(thread_count() / 2);
  }
  if (thread_count() < wanted) {
    log_warning(
        concat("the system does not give ", wanted, " threads: going on with ", thread_count()));
  }
  at::set_num_threads(thread_count());
}

}  // namespace segmamba::engine
