#include "cuda_launch.cuh"
// selective_scan_blocks.cuh converts through the functions of cuda_launch.cuh, so it comes after
// it.
#include "selective_scan_blocks.cuh"

namespace segmamba::kernels {

std::size_t scan_backward_workspace_cuda(const ScanShape& shape) {
  return ScanSizes(shape).backward();
}

template <class T>
void selective_scan_backward_cuda(const ScanInputs<T>& in, const ScanGradients<T>& grad,
                                  State<T>* workspace, CudaStream stream) {
  const CudaLauncher launcher("the backward of selective_scan", stream);
  if (in.shape.states <= kUsualStates) {
    launch_backward<kUsualStates>(in, grad, workspace, launcher);
  } else {
    launch_backward<kMaxStates>(in, grad, workspace, launcher);
  }
}

template void selective_scan_backward_cuda(const ScanInputs<float>&, const ScanGradients<float>&,
                                           float*, CudaStream);
template void selective_scan_backward_cuda(const ScanInputs<double>&, const ScanGradients<double>&,
                                           double*, CudaStream);
template void selective_scan_backward_cuda(const ScanInputs<BFloat16>&,
                                           const ScanGradients<BFloat16>&, float*, CudaStream);
template void selective_scan_backward_cuda(const ScanInputs<Float16>&,
                                           const ScanGradients<Float16>&, float*, CudaStream);

}  // namespace segmamba::kernels
