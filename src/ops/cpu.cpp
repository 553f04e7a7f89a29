#include "cpu.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

#include "segmamba/core/memory.h"

namespace segmamba::ops {

int cpu_threads() { return at::in_parallel_region() ? 1 : at::get_num_threads(); }

at::Tensor empty_buffer(at::IntArrayRef sizes, const at::TensorOptions& options) {
  auto tensor = at::empty(sizes, options);
  if (tensor.is_cpu()) prefer_huge_pages(tensor.mutable_data_ptr(), tensor.nbytes());
  return tensor;
}

}  // namespace segmamba::ops
