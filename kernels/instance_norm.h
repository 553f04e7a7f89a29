#pragma once
// Instance norm with what follows it in a network:
//
//   out = act(w (x - mean) / sqrt(var + eps) + b + s) + r
//
// mean and biased variance over the voxels of each channel of each item; w and b, one number a
// channel, are 1 and 0 where there are none; s is the shortcut, as it is or normalised in the same
// way, with a w and b of its own; act(v) = v for v > 0 and slope v elsewhere; r the residual. All
// memory belongs to the caller. Sums have a fixed order, so results do not depend on the number of
// threads. T: float, double, BFloat16, Float16; statistics and everything between loading and
// storing have the type State<T> or double.

#include <cstddef>
#include <cstdint>

#include "segmamba/core/parallel.h"
#include "selective_scan.h"

namespace segmamba::kernels {

// Memory order of all volumes: [batch, voxels, channels] (channels last), else [batch, channels,
// voxels].
struct VolumeShape {
  std::int64_t batch, channels, voxels;
  bool channels_last;

  std::int64_t count() const { return batch * channels * voxels; }
};

// mean and 1 / sqrt(var + eps), [batch, channels] each, or nullptr.
template <class S>
struct NormStatistics {
  S *mean = nullptr, *inverse_deviation = nullptr;
};

// w and b, [channels] each, or nullptr.
template <class S>
struct NormScaling {
  const S *weight = nullptr, *bias = nullptr;
};

template <class T>
struct InstanceNorm {
  using S = State<T>;
  VolumeShape shape;
  const T* x;
  const T* shortcut;  // or nullptr
  bool normalises_shortcut;
  const T* residual;  // or nullptr
  S slope;            // 1: no activation
  double eps;
  T* out;  // may be x, the shortcut or the residual
  NormScaling<S> scaling{}, shortcut_scaling{};
  NormStatistics<S> statistics{}, shortcut_statistics{};  // written for the backward pass
};

template <class T>
void instance_norm_cpu(const InstanceNorm<T>& norm, const Workers& workers);

// The gradients of all that. x or out are enough: where x is nullptr, the normalised x is formed
// again from `out` (Rota Bulo et al., "In-Place Activated BatchNorm", arXiv 1712.02616), which the
// next layer keeps anyway. That takes a slope over 0, no residual, and neither weights nor biases.
template <class T>
struct InstanceNormBackward {
  using S = State<T>;
  VolumeShape shape;
  const T* grad_out;
  const T* x;         // or nullptr
  const T* out;       // read where x is nullptr
  const T* shortcut;  // or nullptr
  bool normalises_shortcut;
  S slope;
  NormScaling<S> scaling, shortcut_scaling;
  NormStatistics<S> statistics, shortcut_statistics;  // of the forward pass
  // Results. The gradient of the residual is grad_out, that of both biases the same.
  T* grad_x;         // or nullptr
  T* grad_shortcut;  // or nullptr
  S *grad_weight = nullptr, *grad_shortcut_weight = nullptr, *grad_bias = nullptr;
};

template <class T>
void instance_norm_backward_cpu(const InstanceNormBackward<T>& norm, const Workers& workers);

// On the GPU; see selective_scan.h. The forward pass always writes its statistics. `workspace`
// holds instance_norm_workspace_cuda() numbers.
template <class T>
std::size_t instance_norm_workspace_cuda(const VolumeShape& shape);
template <class T>
void instance_norm_cuda(const InstanceNorm<T>& norm, State<T>* workspace, CudaStream stream);
template <class T>
void instance_norm_backward_cuda(const InstanceNormBackward<T>& norm, State<T>* workspace,
                                 CudaStream stream);

}  // namespace segmamba::kernels
