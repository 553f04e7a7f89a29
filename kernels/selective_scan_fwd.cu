#include "cuda_launch.cuh"
// selective_scan_launch.cuh converts through the functions of cuda_launch.cuh, so it comes after
// it.
#include "selective_scan_launch.cuh"

namespace segmamba::kernels {

std::size_t scan_checkpoint_count_cuda(const ScanShape& shape) { return checkpoint_count(shape); }

template <class S>
std::size_t scan_forward_workspace_cuda(const ScanShape& shape) {
  return forward_workspace<S>(shape, scan_tuning(current_architecture()));
}
template std::size_t scan_forward_workspace_cuda<float>(const ScanShape&);
template std::size_t scan_forward_workspace_cuda<double>(const ScanShape&);

template <class T>
void selective_scan_forward_cuda(const ScanInputs<T>& in, const ScanOutputs<T>& out,
                                 State<T>* workspace, CudaStream stream) {
  if (in.shape.batch == 0 || in.shape.length == 0) return;
  launch_forward(in, out, workspace, scan_tuning(current_architecture()),
                 CudaLauncher("selective_scan", stream));
}

template void selective_scan_forward_cuda(const ScanInputs<float>&, const ScanOutputs<float>&,
                                          float*, CudaStream);
template void selective_scan_forward_cuda(const ScanInputs<double>&, const ScanOutputs<double>&,
                                          double*, CudaStream);
template void selective_scan_forward_cuda(const ScanInputs<BFloat16>&, const ScanOutputs<BFloat16>&,
                                          float*, CudaStream);
template void selective_scan_forward_cuda(const ScanInputs<Float16>&, const ScanOutputs<Float16>&,
                                          float*, CudaStream);

}  // namespace segmamba::kernels
