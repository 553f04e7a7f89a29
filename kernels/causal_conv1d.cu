#include "cuda_launch.cuh"
// causal_conv1d_blocks.cuh converts through the functions of cuda_launch.cuh, so it comes after it.
#include "causal_conv1d_blocks.cuh"

namespace segmamba::kernels {

std::size_t conv_backward_workspace_cuda(const ConvShape& shape) {
  return conv_backward_workspace(shape);
}

template <class T>
void causal_conv1d_silu_forward_cuda(const ConvInputs<T>& in, T* out, CudaStream stream) {
  if (in.shape.batch == 0 || in.shape.length == 0) return;
  launch_conv_forward(in, out, CudaLauncher("causal_conv1d_silu", stream));
}

template <class T>
void causal_conv1d_silu_backward_cuda(const ConvInputs<T>& in, const ConvGradients<T>& grad,
                                      State<T>* workspace, CudaStream stream) {
  if (in.shape.batch == 0 || in.shape.length == 0) return;
  launch_conv_backward(in, grad, workspace,
                       CudaLauncher("the backward of causal_conv1d_silu", stream));
}

#define SEGMAMBA_INSTANTIATE(T)                                                                 \
  template void causal_conv1d_silu_forward_cuda(const ConvInputs<T>&, T*, CudaStream);          \
  template void causal_conv1d_silu_backward_cuda(const ConvInputs<T>&, const ConvGradients<T>&, \
                                                 State<T>*, CudaStream)
SEGMAMBA_INSTANTIATE(float);
SEGMAMBA_INSTANTIATE(double);
SEGMAMBA_INSTANTIATE(BFloat16);
SEGMAMBA_INSTANTIATE(Float16);

}  // namespace segmamba::kernels
