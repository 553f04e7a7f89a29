#include "cuda_launch.cuh"
// selective_scan_launch.cuh converts through the functions of cuda_launch.cuh, so it comes after
// it.
#include "selective_scan_launch.cuh"

namespace segmamba::kernels {

template <class S>
std::size_t scan_backward_workspace_cuda(const ScanShape& shape) {
  return backward_workspace<S>(shape, scan_tuning(current_architecture()));
}
template std::size_t scan_backward_workspace_cuda<float>(const ScanShape&);
template std::size_t scan_backward_workspace_cuda<double>(const ScanShape&);

template <class T>
void selective_scan_backward_cuda(const ScanInputs<T>& in, const ScanGradients<T>& grad,
                                  State<T>* workspace, CudaStream stream) {
  if (in.shape.batch == 0 || in.shape.length == 0) return;
  launch_backward(in, grad, workspace, scan_tuning(current_architecture()),
                  CudaLauncher("the backward of selective_scan", stream));
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
