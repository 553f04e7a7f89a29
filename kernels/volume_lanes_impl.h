#pragma once
// Included by volume_lanes_<set>.cpp only; see cpu_lanes_impl.h for what may stand here.

#include "volume_lanes_norm.h"
#include "volume_lanes_winograd.h"

namespace segmamba::kernels::SEGMAMBA_SET {

template <class T>
const VolumeLanes<T>& volume_lanes() {
  static constexpr VolumeLanes<T> lanes{
      SEGMAMBA_SET_NAME, kLanes<T>,         sum_columns<T>,    normalise<T>,
      sum_gradients<T>,  norm_gradients<T>, winograd_tiles<T>, winograd_workspace<T>};
  return lanes;
}

template const VolumeLanes<float>& volume_lanes<float>();
template const VolumeLanes<double>& volume_lanes<double>();
template const VolumeLanes<BFloat16>& volume_lanes<BFloat16>();
template const VolumeLanes<Float16>& volume_lanes<Float16>();

}  // namespace segmamba::kernels::SEGMAMBA_SET
