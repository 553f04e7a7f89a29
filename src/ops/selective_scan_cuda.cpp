// The selective scan's CUDA dispatch key.

#include <ATen/cuda/CUDAContextLight.h>
#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include "scan_arguments.h"

namespace segmamba::ops {
namespace {

template <class T>
void run_forward(const ScanArguments& a, const kernels::ScanOutputs<T>& outputs) {
  using State = kernels::State<T>;
  const auto workspace =
      at::empty({static_cast<std::int64_t>(kernels::scan_forward_workspace_cuda<State>(a.shape()))},
                a.A.options());
  kernels::selective_scan_forward_cuda(a.inputs<T>(), outputs, workspace.mutable_data_ptr<State>(),
                                       c10::cuda::getCurrentCUDAStream().stream());
}

template <class T>
void run_backward(const ScanArguments& a, const at::Tensor& grad_out, const at::Tensor& ungated,
                  const at::Tensor& checkpoints, const ScanBackward& result) {
  using State = kernels::State<T>;
  const auto workspace = at::empty(
      {static_cast<std::int64_t>(kernels::scan_backward_workspace_cuda<State>(a.shape()))},
      a.A.options());
  kernels::selective_scan_backward_cuda(
      a.inputs<T>(), scan_gradients<T>(grad_out, ungated, checkpoints, result),
      workspace.mutable_data_ptr<State>(), c10::cuda::getCurrentCUDAStream().stream());
}

ScanForward forward_cuda(const at::Tensor& x, const at::Tensor& delta, const at::Tensor& A,
                         const at::Tensor& B, const at::Tensor& C, const OptionalTensor& D,
                         const OptionalTensor& z, const OptionalTensor& delta_bias,
                         bool delta_softplus, at::IntArrayRef orders, bool keep) {
  const ScanArguments a(x, delta, A, B, C, D, z, delta_bias, delta_softplus, orders);
  const c10::cuda::CUDAGuard guard(x.device());
  auto result = make_scan_forward(
      a, static_cast<std::int64_t>(kernels::scan_checkpoint_count_cuda(a.shape())), keep);
  for_element_type(x, [&](auto element) {
    using T = decltype(element);
    run_forward<T>(a, scan_outputs<T>(result));
  });
  return result;
}

ScanBackward backward_cuda(const at::Tensor& grad_out, const at::Tensor& x, const at::Tensor& delta,
                           const at::Tensor& A, const at::Tensor& B, const at::Tensor& C,
                           const OptionalTensor& D, const OptionalTensor& z,
                           const OptionalTensor& delta_bias, bool delta_softplus,
                           at::IntArrayRef orders, const at::Tensor& ungated,
                           const at::Tensor& checkpoints) {
  const ScanArguments a(x, delta, A, B, C, D, z, delta_bias, delta_softplus, orders);
  const c10::cuda::CUDAGuard guard(x.device());
  auto result = make_scan_backward(a, ungated.numel() > 0);
  const auto grad = grad_out.contiguous();
  for_element_type(x, [&](auto element) {
    run_backward<decltype(element)>(a, grad, ungated, checkpoints, result);
  });
  return result;
}

ScanAdd add_cuda(const at::Tensor& x, const at::Tensor& delta, const at::Tensor& A,
                 const at::Tensor& B, const at::Tensor& C, const OptionalTensor& D,
                 const OptionalTensor& z, const OptionalTensor& delta_bias, bool delta_softplus,
                 at::IntArrayRef orders, const at::Tensor& ungated, bool adds, bool keep,
                 bool finish) {
  const ScanArguments a(x, delta, A, B, C, D, z, delta_bias, delta_softplus, orders);
  const c10::cuda::CUDAGuard guard(x.device());
  auto result = make_scan_add(
      a, ungated, static_cast<std::int64_t>(kernels::scan_checkpoint_count_cuda(a.shape())), keep,
      finish);
  for_element_type(x, [&](auto element) {
    using T = decltype(element);
    run_forward<T>(a, scan_outputs<T>(result, ungated, adds));
  });
  return result;
}

TORCH_LIBRARY_IMPL(segmamba, CUDA, library) {
  library.impl("_selective_scan_forward", forward_cuda);
  library.impl("_selective_scan_backward", backward_cuda);
  library.impl("_selective_scan_add", add_cuda);
}

}  // namespace
}  // namespace segmamba::ops
