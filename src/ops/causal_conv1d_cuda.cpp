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
void run_backward(const ConvArguments& a, const kernels::ConvGradients<T>& gradients) {
  const auto workspace =
      at::empty({static_cast<std::int64_t>(kernels::conv_backward_workspace_cuda(a.shape()))},
                a.weight.options());
  kernels::causal_conv1d_silu_backward_cuda(a.inputs<T>(), gradients,
                                            workspace.mutable_data_ptr<kernels::State<T>>(),
                                            c10::cuda::getCurrentCUDAStream().stream());
}

at::Tensor forward_cuda(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                        at::IntArrayRef orders) {
  const ConvArguments a(x, weight, bias, orders);
  const c10::cuda::CUDAGuard guard(x.device());
  auto out = at::empty(a.output_shape(), x.options());
  for_element_type(x, [&](auto element) { run_forward<decltype(element)>(a, out); });
  return out;
}

ConvBackward backward_cuda(const at::Tensor& grad_out, const at::Tensor& x,
                           const at::Tensor& weight, const at::Tensor& bias,
                           at::IntArrayRef orders) {
  const ConvArguments a(x, weight, bias, orders);
  const c10::cuda::CUDAGuard guard(x.device());
  auto result = make_conv_backward(a);
  const auto grad = grad_out.contiguous();
  for_element_type(x, [&](auto element) {
    using T = decltype(element);
    run_backward<T>(a, conv_gradients<T>(grad, result));
  });
  return result;
}

ConvBackwardAdd backward_add_cuda(const at::Tensor& grad_out, const at::Tensor& x,
                                  const at::Tensor& weight, const at::Tensor& bias,
                                  at::IntArrayRef orders, const at::Tensor& x_sum, bool adds) {
  const ConvArguments a(x, weight, bias, orders);
  const c10::cuda::CUDAGuard guard(x.device());
  auto result = make_conv_backward_add(a, x_sum);
  const auto grad = grad_out.contiguous();
  for_element_type(x, [&](auto element) {
    using T = decltype(element);
    run_backward<T>(a, conv_gradients<T>(grad, result, x_sum, adds));
  });
  return result;
}

TORCH_LIBRARY_IMPL(segmamba, CUDA, library) {
  library.impl("causal_conv1d_silu", forward_cuda);
  library.impl("_causal_conv1d_silu_backward", backward_cuda);
  library.impl("_causal_conv1d_silu_backward_add", backward_add_cuda);
}

}  // namespace
}  // namespace segmamba::ops
