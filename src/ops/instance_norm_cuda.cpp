// The instance norm's CUDA dispatch key.

#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include "norm_arguments.h"

namespace segmamba::ops {
namespace {

template <class T>
at::Tensor workspace_for(const kernels::VolumeShape& shape, const at::Tensor& statistics) {
  return at::empty({static_cast<std::int64_t>(kernels::instance_norm_workspace_cuda<T>(shape))},
                   statistics.options());
}

NormForward forward_cuda(const at::Tensor& x, const Others& others, bool normalises_shortcut,
                         double slope, bool overwrites) {
  const NormArguments a(x, after_norm(others, normalises_shortcut, slope));
  const c10::cuda::CUDAGuard guard(x.device());
  auto result = make_norm_forward(a, overwrites);
  for_element_type(x, [&](auto element) {
    using T = decltype(element);
    const auto workspace = workspace_for<T>(a.shape(), std::get<1>(result));
    kernels::instance_norm_cuda(norm_kernel<T>(a, result),
                                pointer_into<kernels::State<T>>(workspace),
                                c10::cuda::getCurrentCUDAStream().stream());
  });
  return result;
}

NormBackward backward_cuda(const at::Tensor& grad_out, const at::Tensor& kept, bool is_output,
                           const Others& others, bool normalises_shortcut, double slope,
                           const at::Tensor& statistics, std::array<bool, 5> wanted) {
  const NormArguments a(kept, after_norm(others, normalises_shortcut, slope));
  const c10::cuda::CUDAGuard guard(kept.device());
  auto result = make_norm_backward(a, wanted);
  const auto grad = grad_out.contiguous(a.format);
  for_element_type(kept, [&](auto element) {
    using T = decltype(element);
    const auto workspace = workspace_for<T>(a.shape(), statistics);
    kernels::instance_norm_backward_cuda(
        norm_backward_kernel<T>(a, is_output, grad, statistics, result),
        pointer_into<kernels::State<T>>(workspace), c10::cuda::getCurrentCUDAStream().stream());
  });
  return result;
}

TORCH_LIBRARY_IMPL(segmamba, CUDA, library) {
  library.impl("_instance_norm_forward", forward_cuda);
  library.impl("_instance_norm_backward", backward_cuda);
}

}  // namespace
}  // namespace segmamba::ops
