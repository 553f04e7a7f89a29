// The causal convolution's CPU dispatch key.

#include <ATen/Parallel.h>
#include <torch/library.h>

#include "conv_arguments.h"

namespace segmamba::ops {
namespace {

// 16-bit data is computed in float32.
at::ScalarType compute_type(const at::Tensor& x) {
  return x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

at::Tensor forward_cpu(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                       at::IntArrayRef orders) {
  ConvArguments a(x, weight, bias, orders);
  a.x = with_unit_stride(a.x.to(compute_type(x)));
  const auto out = at::empty(a.output_shape(), a.x.options());
  const int threads = at::in_parallel_region() ? 1 : at::get_num_threads();
  if (a.x.scalar_type() == at::kDouble) {
    kernels::causal_conv1d_silu_forward_cpu(a.inputs<double>(), out.mutable_data_ptr<double>(),
                                            threads);
  } else {
    kernels::causal_conv1d_silu_forward_cpu(a.inputs<float>(), out.mutable_data_ptr<float>(),
                                            threads);
  }
  return out.to(x.scalar_type());
}

ConvBackward backward_cpu(const at::Tensor& grad_out, const at::Tensor& x, const at::Tensor& weight,
                          const at::Tensor& bias, at::IntArrayRef orders) {
  ConvArguments a(x, weight, bias, orders);
  a.x = with_unit_stride(a.x.to(compute_type(x)));
  auto result = make_conv_backward(a);
  const auto grad = grad_out.to(compute_type(x)).contiguous();
  const int threads = at::in_parallel_region() ? 1 : at::get_num_threads();
  if (a.x.scalar_type() == at::kDouble) {
    kernels::causal_conv1d_silu_backward_cpu(a.inputs<double>(),
                                             conv_gradients<double>(grad, result), threads);
  } else {
    kernels::causal_conv1d_silu_backward_cpu(a.inputs<float>(), conv_gradients<float>(grad, result),
                                             threads);
  }
  std::get<0>(result) = std::get<0>(result).to(x.scalar_type());
  return result;
}

ConvBackwardAdd backward_add_cpu(const at::Tensor& grad_out, const at::Tensor& x,
                                 const at::Tensor& weight, const at::Tensor& bias,
                                 at::IntArrayRef orders, const at::Tensor& x_sum, bool adds) {
  ConvArguments a(x, weight, bias, orders);
  a.x = with_unit_stride(a.x.to(compute_type(x)));
  auto result = make_conv_backward_add(a, x_sum);
  const auto grad = grad_out.to(compute_type(x)).contiguous();
  const int threads = at::in_parallel_region() ? 1 : at::get_num_threads();
  if (a.x.scalar_type() == at::kDouble) {
    kernels::causal_conv1d_silu_backward_cpu(
        a.inputs<double>(), conv_gradients<double>(grad, result, x_sum, adds), threads);
  } else {
    kernels::causal_conv1d_silu_backward_cpu(
        a.inputs<float>(), conv_gradients<float>(grad, result, x_sum, adds), threads);
  }
  return result;
}

TORCH_LIBRARY_IMPL(segmamba, CPU, library) {
  library.impl("causal_conv1d_silu", forward_cpu);
  library.impl("_causal_conv1d_silu_backward", backward_cpu);
  library.impl("_causal_conv1d_silu_backward_add", backward_add_cpu);
}

}  // namespace
}  // namespace segmamba::ops
