#include "cuda_launch.cuh"
// instance_norm_blocks.cuh converts through the functions of cuda_launch.cuh, so it comes after it.
#include "instance_norm_blocks.cuh"

namespace segmamba::kernels {

template <class T>
std::size_t instance_norm_workspace_cuda(const VolumeShape& shape) {
  return norm_workspace<T>(shape);
}

template <class T>
void instance_norm_cuda(const InstanceNorm<T>& norm, State<T>* workspace, CudaStream stream) {
  if (norm.shape.count() == 0) return;
  launch_norm_forward(norm, workspace, CudaLauncher("instance_norm", stream));
}

template <class T>
void instance_norm_backward_cuda(const InstanceNormBackward<T>& norm, State<T>* workspace,
                                 CudaStream stream) {
  if (norm.shape.count() == 0) return;
  launch_norm_backward(norm, workspace, CudaLauncher("the backward of instance_norm", stream));
}

#define SEGMAMBA_INSTANTIATE(T)                                                    \
  template std::size_t instance_norm_workspace_cuda<T>(const VolumeShape&);        \
  template void instance_norm_cuda(const InstanceNorm<T>&, State<T>*, CudaStream); \
  template void instance_norm_backward_cuda(const InstanceNormBackward<T>&, State<T>*, CudaStream)
SEGMAMBA_INSTANTIATE(float);
SEGMAMBA_INSTANTIATE(double);
SEGMAMBA_INSTANTIATE(BFloat16);
SEGMAMBA_INSTANTIATE(Float16);

}  // namespace segmamba::kernels
