#include "cpu.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

#include "segmamba/core/memory.h"

namespace segmamba::ops {

Workers cpu_workers() {
  if (at::in_parallel_region()) return 1;
#ifdef __SANITIZE_THREAD__
  // Threads of our own: ThreadSanitizer does not see how those of OpenMP wait for each other.
  return at::get_num_threads();
#else
  return {at::get_num_threads(), [](int threads, const std::function<void()>& work) {
            at::parallel_for(0, threads, 1, [&](std::int64_t begin, std::int64_t end) {
              for (std::int64_t i = begin; i < end; ++i) work();
            });
          }};
#endif
}

at::Tensor empty_buffer(at::IntArrayRef sizes, const at::TensorOptions& options,
                        std::optional<at::MemoryFormat> format) {
  auto tensor = at::empty(sizes, options, format);
  if (tensor.is_cpu()) prefer_huge_pages(tensor.mutable_data_ptr(), tensor.nbytes());
  return tensor;
}

}  // namespace segmamba::ops
