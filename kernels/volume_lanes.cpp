#include "volume_lanes.h"

namespace segmamba::kernels {

template <class T>
const VolumeLanes<T>& volume_lanes() {
#if defined(SEGMAMBA_X86_LANES)
  if (instruction_set() == InstructionSet::kAvx512) return avx512::volume_lanes<T>();
  if (instruction_set() == InstructionSet::kAvx2) return avx2::volume_lanes<T>();
#endif
  return baseline::volume_lanes<T>();
}

template const VolumeLanes<float>& volume_lanes<float>();
template const VolumeLanes<double>& volume_lanes<double>();
template const VolumeLanes<BFloat16>& volume_lanes<BFloat16>();
template const VolumeLanes<Float16>& volume_lanes<Float16>();

}  // namespace segmamba::kernels
