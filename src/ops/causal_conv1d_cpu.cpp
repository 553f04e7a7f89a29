// The causal convolution's CPU dispatch key.

#include <torch/library.h>

#include "conv_arguments.h"
#include "cpu.h"

namespace segmamba::ops {
namespace {

at::Tensor forward_cpu(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                       at::IntArrayRef orders) {
  const ConvArguments a(x, weight, bias, orders);
  auto out = empty_buffer(a.output_shape(), a.x.options());
  for_element_type(x, [&](auto element) {
    using T = decltype(element);
    kernels::causal_conv1d_silu_forward_cpu(a.inputs<T>(), static_cast<T*>(out.mutable_data_ptr()),
                                            cpu_workers());
  });
  return out;
}

ConvBackward backward_cpu(const at::Tensor& grad_out, const at::Tensor& x, const at::Tensor& weight,
                          const at::Tensor& bias, at::IntArrayRef orders) {
  const ConvArguments a(x, weight, bias, orders);
  auto result = make_conv_backward(a);
  const auto grad = grad_out.contiguous();
  for_element_type(x, [&](auto element) {
    using T = decltype(element);
    kernels::causal_conv1d_silu_backward_cpu(a.inputs<T>(), conv_gradients<T>(grad, result),
                                             cpu_workers());
  });
  return result;
}

ConvBackwardAdd backward_add_cpu(const at::Tensor& grad_out, const at::Tensor& x,
                                 const at::Tensor& weight, const at::Tensor& bias,
                                 at::IntArrayRef orders, const at::Tensor& x_sum, bool adds) {
  const ConvArguments a(x, weight, bias, orders);
  auto result = make_conv_backward_add(a, x_sum);
  const auto grad = grad_out.contiguous();
  for_element_type(x, [&](auto element) {
    using T = decltype(element);
    kernels::causal_conv1d_silu_backward_cpu(
        a.inputs<T>(), conv_gradients<T>(grad, result, x_sum, adds), cpu_workers());
  });
  return result;
}

TORCH_LIBRARY_IMPL(segmamba, CPU, library) {
  library.impl("causal_conv1d_silu", forward_cpu);
  library.impl("_causal_conv1d_silu_backward", backward_cpu);
  library.impl("_causal_conv1d_silu_backward_add", backward_add_cpu);
}

}  // namespace
}  // namespace segmamba::ops
