// The selective scan's CPU dispatch key.

#include <torch/library.h>

#include "cpu.h"
#include "scan_arguments.h"

namespace segmamba::ops {
namespace {

std::int64_t checkpoint_count(const ScanArguments& a) {
  return static_cast<std::int64_t>(kernels::scan_checkpoint_count_cpu(a.shape()));
}

ScanForward forward_cpu(const at::Tensor& x, const at::Tensor& delta, const at::Tensor& A,
                        const at::Tensor& B, const at::Tensor& C, const OptionalTensor& D,
                        const OptionalTensor& z, const OptionalTensor& delta_bias,
                        bool delta_softplus, at::IntArrayRef orders, bool keep) {
  const ScanArguments a(x, delta, A, B, C, D, z, delta_bias, delta_softplus, orders);
  auto result = make_scan_forward(a, checkpoint_count(a), keep);
  for_element_type(x, [&](auto element) {
    using T = decltype(element);
    kernels::selective_scan_forward_cpu(a.inputs<T>(), scan_outputs<T>(result), cpu_workers());
  });
  return result;
}

ScanBackward backward_cpu(const at::Tensor& grad_out, const at::Tensor& x, const at::Tensor& delta,
                          const at::Tensor& A, const at::Tensor& B, const at::Tensor& C,
                          const OptionalTensor& D, const OptionalTensor& z,
                          const OptionalTensor& delta_bias, bool delta_softplus,
                          at::IntArrayRef orders, const at::Tensor& ungated,
                          const at::Tensor& checkpoints) {
  const ScanArguments a(x, delta, A, B, C, D, z, delta_bias, delta_softplus, orders);
  auto result = make_scan_backward(a, ungated.numel() > 0);
  const auto grad = grad_out.contiguous();
  for_element_type(x, [&](auto element) {
    using T = decltype(element);
    kernels::selective_scan_backward_cpu(
        a.inputs<T>(), scan_gradients<T>(grad, ungated, checkpoints, result), cpu_workers());
  });
  return result;
}

ScanAdd add_cpu(const at::Tensor& x, const at::Tensor& delta, const at::Tensor& A,
                const at::Tensor& B, const at::Tensor& C, const OptionalTensor& D,
                const OptionalTensor& z, const OptionalTensor& delta_bias, bool delta_softplus,
                at::IntArrayRef orders, const at::Tensor& ungated, bool adds, bool keep,
                bool finish) {
  const ScanArguments a(x, delta, A, B, C, D, z, delta_bias, delta_softplus, orders);
  auto result = make_scan_add(a, ungated, checkpoint_count(a), keep, finish);
  for_element_type(x, [&](auto element) {
    using T = decltype(element);
    kernels::selective_scan_forward_cpu(a.inputs<T>(), scan_outputs<T>(result, ungated, adds),
                                        cpu_workers());
  });
  return result;
}

TORCH_LIBRARY_IMPL(segmamba, CPU, library) {
  library.impl("_selective_scan_forward", forward_cpu);
  library.impl("_selective_scan_backward", backward_cpu);
  library.impl("_selective_scan_add", add_cpu);
}

}  // namespace
}  // namespace segmamba::ops
