#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <string>

namespace segmamba::engine {

// NVIDIA GPUs that this process can use.
std::int64_t gpu_count();
// "auto" (a GPU where there is one), "cpu", "cuda" or "cuda:1". Throws Error where there is no such
// device.
c10::Device select_device(const std::string& name);

// Sets the threads of LibTorch and of parallel_for for the whole process; 0: one a processor, which
// `processes` of them share. For programs to call at their start.
void set_compute_threads(std::int64_t count, std::int64_t processes = 1);
// Whether cuDNN tries its algorithms on each new shape of a convolution and keeps the fastest, in
// the whole process: seconds at the first passes of a network, for faster ones afterwards.
void tune_convolutions(bool tunes);
// Bytes of memory: that the device has (a CPU: its machine), that are free, and the most that this
// process has taken so far (a GPU: reserved by LibTorch; a CPU: the whole process).
struct DeviceMemory {
  std::int64_t all = 0, free = 0, most_taken = 0;
};
DeviceMemory device_memory(const c10::Device& device);
// What LibTorch's tensors and CUDA itself take of a GPU now; 0 for a CPU.
std::int64_t device_bytes_held(const c10::Device& device);
// Lets LibTorch take so much of a GPU and no more, CUDA itself included, in the whole process: what
// would exceed it throws c10::OutOfMemoryError. Does nothing for a CPU.
void limit_device_memory(const c10::Device& device, std::int64_t bytes);
// DeviceMemory::most_taken alone, which costs next to nothing.
std::int64_t most_memory_taken(const c10::Device& device);

}  // namespace segmamba::engine
