#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <string>

namespace segmamba::engine {

// "auto" (a GPU where there is one), "cpu", "cuda" or "cuda:1". Throws Error where there is no such
// device.
c10::Device select_device(const std::string& name);

// Sets the threads of LibTorch and of parallel_for for the whole process; 0: one a processor. For
// programs to call at their start.
void set_compute_threads(std::int64_t count);

}  // namespace segmamba::engine
