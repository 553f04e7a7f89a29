#pragma once
// What the CPU kernels take of the machine.

#include <ATen/core/Tensor.h>

#include <optional>

#include "segmamba/core/parallel.h"

namespace segmamba::ops {

// LibTorch's threads, which wait for the next loop in a spin where the last one was a moment ago; a
// second set would contend with them. One where the caller is one of them.
Workers cpu_workers();

// at::empty; on the CPU, where it is large, in huge pages: the first touch of 4 KB pages takes as
// long as computing what they will hold.
at::Tensor empty_buffer(at::IntArrayRef sizes, const at::TensorOptions& options,
                        std::optional<at::MemoryFormat> format = std::nullopt);

}  // namespace segmamba::ops
