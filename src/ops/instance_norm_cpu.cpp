// The instance norm's CPU dispatch key.

#include <torch/library.h>

#include "cpu.h"
#include "norm_arguments.h"

namespace segmamba::ops {
namespace {

NormForward forward_cpu(const at::Tensor& x, const Others& others, bool normalises_shortcut,
                        double slope, bool overwrites) {
  const NormArguments a(x, after_norm(others, normalises_shortcut, slope));
  auto result = make_norm_forward(a, overwrites);
  for_element_type(x, [&](auto element) {
    kernels::instance_norm_cpu(norm_kernel<decltype(element)>(a, result), cpu_workers());
  });
  return result;
}

NormBackward backward_cpu(const at::Tensor& grad_out, const at::Tensor& kept, bool is_output,
                          const Others& others, bool normalises_shortcut, double slope,
                          const at::Tensor& statistics, std::array<bool, 5> wanted) {
  const NormArguments a(kept, after_norm(others, normalises_shortcut, slope));
  auto result = make_norm_backward(a, wanted);
  const auto grad = grad_out.contiguous(a.format);
  for_element_type(kept, [&](auto element) {
    kernels::instance_norm_backward_cpu(
        norm_backward_kernel<decltype(element)>(a, is_output, grad, statistics, result),
        cpu_workers());
  });
  return result;
}

TORCH_LIBRARY_IMPL(segmamba, CPU, library) {
  library.impl("_instance_norm_forward", forward_cpu);
  library.impl("_instance_norm_backward", backward_cpu);
}

}  // namespace
}  // namespace segmamba::ops
