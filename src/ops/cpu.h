#pragma once
// What the CPU kernels take of the machine.

#include <ATen/core/Tensor.h>

namespace segmamba::ops {

// LibTorch's threads; one where the caller is one of them.
int cpu_threads();

// at::empty; on the CPU, where it is large, in huge pages: the first touch of 4 KB pages takes as
// long as computing what they will hold.
at::Tensor empty_buffer(at::IntArrayRef sizes, const at::TensorOptions& options);

}  // namespace segmamba::ops
