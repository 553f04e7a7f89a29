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
void run_forward(const ScanArguments& a, const ScanForward& result) {
  using State = kernels::State<T>;
  const auto workspace =
      at::empty({static_cast<std::int64_t>(kernels::scan_forward_workspace_cuda<State>(a.shape()))},
                a.A.options());
  kernels::selective_scan_forward_cuda(a.inputs<T>(), scan_outputs<T>(result),
                                       workspace.mutable_data_ptr<State>(),
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
  const auto result = make_scan_forward(
      a, static_cast<std::int64_t>(kernels::scan_checkpoint_count_cuda(a.shape())), keep);
  switch (x.scalar_type()) {
    case at::kDouble:
      run_forward<double>(a, result);
      break;
    case at::kBFloat16:
      run_forward<kernels::BFloat16>(a, result);
      break;
    case at::kHalf:
      run_forward<kernels::Float16>(a, result);
      break;
    default:
      run_forward<float>(a, result);
  }
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
  const auto result = make_scan_backward(a);
  const auto grad = grad_out.contiguous();
  switch (x.scalar_type()) {
    case at::kDouble:
      run_backward<double>(a, grad, ungated, checkpoints, result);
      break;
    case at::kBFloat16:
      run_backward<kernels::BFloat16>(a, grad, ungated, checkpoints, result);
      break;
    case at::kHalf:
      run_backward<kernels::Float16>(a, grad, ungated, checkpoints, result);
      break;
    default:
      run_backward<float>(a, grad, ungated, checkpoints, result);
  }
  return result;
}

TORCH_LIBRARY_IMPL(segmamba, CUDA, library) {
  library.impl("_selective_scan_forward", forward_cuda);
  library.impl("_selective_scan_backward", backward_cuda);
}

}  // namespace
}  // namespace segmamba::ops
