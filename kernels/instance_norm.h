#pragma once
// Instance norm with what follows it in a network, for inference:
//
//   out = act(w (x - mean) / sqrt(var + eps) + b + s) + r
//
// mean and biased variance over the voxels of each channel of each item; w and b, one number a
// channel, are 1 and 0 where there are none; s is the shortcut, as it is or normalised in the same
// way, with a w and b of its own; act(v) = v for v > 0 and slope v elsewhere; r the residual. All
// memory belongs to the caller. Sums have a fixed order, so results do not depend on the number of
// threads. T: float, double, BFloat16, Float16; statistics and everything between loading and
// storing have the type State<T> or double.

#include <cstdint>

#include "segmamba/core/parallel.h"
#include "selective_scan.h"

namespace segmamba::kernels {

template <class T>
struct InstanceNorm {
  std::int64_t batch, channels, voxels;
  bool channels_last;  // memory order of all arrays: [batch, voxels, channels], else
                       // [batch, channels, voxels]
  const T* x;
  const T* shortcut;  // or nullptr
  bool normalises_shortcut;
  const T* residual;  // or nullptr
  State<T> slope;     // 1: no activation
  double eps;
  T* out;  // may be x, the shortcut or the residual
  // [channels] or nullptr.
  const State<T>*weight = nullptr, *bias = nullptr;
  const State<T>*shortcut_weight = nullptr, *shortcut_bias = nullptr;
};

template <class T>
void instance_norm_cpu(const InstanceNorm<T>& norm, const Workers& workers);

}  // namespace segmamba::kernels
