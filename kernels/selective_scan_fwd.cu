#include "cuda_launch.cuh"
// selective_scan_blocks.cuh converts through the functions of cuda_launch.cuh, so it comes after
// it.
#include "selective_scan_blocks.cuh"

namespace segmamba::kernels {

std::size_t scan_checkpoint_count_cuda(const ScanShape& shape) {
  return ScanSizes(shape).chunk_states;
}
std::size_t scan_forward_workspace_cuda(const ScanShape& shape) {
  return ScanSizes(shape).forward();
}

template <class T>
void selective_scan_forward_cuda(const ScanInputs<T>& in, const ScanOutputs<T>& out,
                                 State<T>* workspace, CudaStream stream) {
  const CudaLauncher launcher("selective_scan", stream);
  if (in.shape.states <= kUsualStates) {
    launch_forward<kUsualStates>(in, out, workspace, launcher);
  } else {
    launch_forward<kMaxStates>(in, out, workspace, launcher);
  }
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
