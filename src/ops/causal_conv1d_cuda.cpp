// The causal convolution's CUDA dispatch key.

#include <ATen/cuda/CUDAContextLight.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include "conv_arguments.h"

namespace segmamba::ops {
namespace {

template <class T>
void run_forward(const ConvArguments& a, const at::Tensor& out) {
  kernels::causal_conv1d_silu_forward_cuda(a.inputs<T>(), static_cast<T*>(out.mutable_data_ptr()),
                                           c10::cuda::getCurrentCUDAStream().stream());
}

template <class T>
void run_backward(const ConvArguments& a, const at::Tensor& grad_out, const ConvBackward& result) {
  const auto workspace =
      at::empty({static_cast<std::int64_t>(kernels::conv_backward_workspace_cuda(a.shape()))},
                a.weight.options());
  kernels::causal_conv1d_silu_backward_cuda(a.inputs<T>(), conv_gradients<T>(grad_out, result),
                                            workspace.mutable_data_ptr<kernels::State<T>>(),
                                            c10::cuda::getCurrentCUDAStream().stream());
}

at::Tensor forward_cuda(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                        at::IntArrayRef orders) {
  const ConvArguments a(x, weight, bias, orders);
  const c10::cuda::CUDAGuard guard(x.device());
  const auto out = at::empty(a.output_shape(), x.options());
  switch (x.scalar_type()) {
    case at::kDouble:
      run_forward<double>(a, out);
      break;
    case at::kBFloat16:
      run_forward<kernels::BFloat16>(a, out);
      break;
    case at::kHalf:
      run_forward<kernels::Float16>(a, out);
      break;
    default:
      run_forward<float>(a, out);
  }
  return out;
}

ConvBackward backward_cuda(const at::Tensor& grad_out, const at::Tensor& x,
                           const at::Tensor& weight, const at::Tensor& bias,
                           at::IntArrayRef orders) {
  const ConvArguments a(x, weight, bias, orders);
  const c10::cuda::CUDAGuard guard(x.device());
  const auto result = make_conv_backward(a);
  const auto grad = grad_out.contiguous();
  switch (x.scalar_type()) {
    case at::kDouble:
      run_backward<double>(a, grad, result);
      break;
    case at::kBFloat16:
      run_backward<kernels::BFloat16>(a, grad, result);
      break;
    case at::kHalf:
      run_backward<kernels::Float16>(a, grad, result);
      break;
    default:
      run_backward<float>(a, grad, result);
  }
  return result;
}

TORCH_LIBRARY_IMPL(segmamba, CUDA, library) {
  library.impl("causal_conv1d_silu", forward_cuda);
  library.impl("_causal_conv1d_silu_backward", backward_cuda);
}

}  // namespace
}  // namespace segmamba::ops
