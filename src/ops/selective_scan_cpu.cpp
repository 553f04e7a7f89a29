// The selective scan's CPU dispatch key.

#include <ATen/Parallel.h>
#include <torch/library.h>

#include "scan_arguments.h"

namespace segmamba::ops {
namespace {

// 16-bit data is computed in float32.
at::ScalarType compute_type(const at::Tensor& x) {
  return x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

ScanForward forward_cpu(const at::Tensor& x, const at::Tensor& delta, const at::Tensor& A,
                        const at::Tensor& B, const at::Tensor& C, const OptionalTensor& D,
                        const OptionalTensor& z, const OptionalTensor& delta_bias,
                        bool delta_softplus, at::IntArrayRef orders, bool keep) {
  const auto a = ScanArguments(x, delta, A, B, C, D, z, delta_bias, delta_softplus, orders)
                     .with_data_type(compute_type(x));
  auto result = make_scan_forward(
      a, static_cast<std::int64_t>(kernels::scan_checkpoint_count_cpu(a.shape())), keep);
  const int threads = at::in_parallel_region() ? 1 : at::get_num_threads();
  if (a.x.scalar_type() == at::kDouble) {
    kernels::selective_scan_forward_cpu(a.inputs<double>(), scan_outputs<double>(result), threads);
  } else {
    kernels::selective_scan_forward_cpu(a.inputs<float>(), scan_outputs<float>(result), threads);
  }
  std::get<0>(result) = std::get<0>(result).to(x.scalar_type());
  return result;
}

ScanBackward backward_cpu(const at::Tensor& grad_out, const at::Tensor& x, const at::Tensor& delta,
                          const at::Tensor& A, const at::Tensor& B, const at::Tensor& C,
                          const OptionalTensor& D, const OptionalTensor& z,
                          const OptionalTensor& delta_bias, bool delta_softplus,
                          at::IntArrayRef orders, const at::Tensor& ungated,
                          const at::Tensor& checkpoints) {
  const auto a = ScanArguments(x, delta, A, B, C, D, z, delta_bias, delta_softplus, orders)
                     .with_data_type(compute_type(x));
  auto result = make_scan_backward(a, ungated.numel() > 0);
  const auto grad = grad_out.to(compute_type(x)).contiguous();
  const int threads = at::in_parallel_region() ? 1 : at::get_num_threads();
  if (a.x.scalar_type() == at::kDouble) {
    kernels::selective_scan_backward_cpu(
        a.inputs<double>(), scan_gradients<double>(grad, ungated, checkpoints, result), threads);
  } else {
    kernels::selective_scan_backward_cpu(
        a.inputs<float>(), scan_gradients<float>(grad, ungated, checkpoints, result), threads);
  }
  auto& [dx, ddelta, dA, dB, dC, dD, dz, dbias] = result;
  for (auto* tensor : {&dx, &ddelta, &dB, &dC, &dz}) *tensor = tensor->to(x.scalar_type());
  return result;
}

ScanAdd add_cpu(const at::Tensor& x, const at::Tensor& delta, const at::Tensor& A,
                const at::Tensor& B, const at::Tensor& C, const OptionalTensor& D,
                const OptionalTensor& z, const OptionalTensor& delta_bias, bool delta_softplus,
                at::IntArrayRef orders, const at::Tensor& ungated, bool adds, bool keep,
                bool finish) {
  const auto a = ScanArguments(x, delta, A, B, C, D, z, delta_bias, delta_softplus, orders)
                     .with_data_type(compute_type(x));
  auto result = make_scan_add(
      a, ungated, static_cast<std::int64_t>(kernels::scan_checkpoint_count_cpu(a.shape())), keep,
      finish);
  const int threads = at::in_parallel_region() ? 1 : at::get_num_threads();
  if (a.x.scalar_type() == at::kDouble) {
    kernels::selective_scan_forward_cpu(a.inputs<double>(),
                                        scan_outputs<double>(result, ungated, adds), threads);
  } else {
    kernels::selective_scan_forward_cpu(a.inputs<float>(),
                                        scan_outputs<float>(result, ungated, adds), threads);
  }
  std::get<0>(result) = std::get<0>(result).to(x.scalar_type());
  return result;
}

TORCH_LIBRARY_IMPL(segmamba, CPU, library) {
  library.impl("_selective_scan_forward", forward_cpu);
  library.impl("_selective_scan_backward", backward_cpu);
  library.impl("_selective_scan_add", add_cpu);
}

}  // namespace
}  // namespace segmamba::ops
