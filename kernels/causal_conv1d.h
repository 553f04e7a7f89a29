#pragma once
// Causal depth-wise convolution along a scan path, then SiLU, for K directions over one input:
//
//   s_t        = bias + sum_j weight_j x_{t - (J-1) + j}          j = 0 .. J-1, x_t = 0 for t < 0
//   out_{k, l} = silu(s_{k, t_k(l)})
//
// Steps t follow the direction's ScanMap; memory keeps token order. All memory belongs to the
// caller, and results do not depend on the number of threads.

#include "selective_scan.h"

namespace segmamba::kernels {

inline constexpr int kMaxTaps = 8;

struct ConvShape {
  std::int32_t directions;  // K
  std::int32_t batch;       // B
  std::int32_t length;      // L
  std::int32_t channels;    // D
  std::int32_t taps;        // J, at most kMaxTaps
};

template <class T>
struct ConvInputs {
  ConvShape shape;
  const ScanMap* maps;     // [K], in host memory
  Rows<const T> x;         // [B, L, D]; its direction stride is not used
  const State<T>* weight;  // [K, D, J]
  const State<T>* bias;    // [K, D]
};

template <class T>
struct ConvGradients {
  const T* out;               // [K, B, L, D]: gradient of the output
  T* x;                       // [B, L, D], or nullptr where only `x_sum` is wanted
  State<T>* weight;           // [K, D, J]
  State<T>* bias;             // [K, D]
  State<T>* x_sum = nullptr;  // [B, L, D]: x's gradient, not rounded to T; nullptr: not kept
  bool adds = false;          // to what `x_sum` holds: directions of earlier calls
};

// T: float, double, BFloat16, Float16. out [K, B, L, D].
template <class T>
void causal_conv1d_silu_forward_cpu(const ConvInputs<T>& in, T* out, const Workers& workers);
template <class T>
void causal_conv1d_silu_backward_cpu(const ConvInputs<T>& in, const ConvGradients<T>& grad,
                                     const Workers& workers);

// On the GPU; see selective_scan.h. `workspace` holds conv_backward_workspace_cuda() numbers.
std::size_t conv_backward_workspace_cuda(const ConvShape& shape);
template <class T>
void causal_conv1d_silu_forward_cuda(const ConvInputs<T>& in, T* out, CudaStream stream);
template <class T>
void causal_conv1d_silu_backward_cuda(const ConvInputs<T>& in, const ConvGradients<T>& grad,
                                      State<T>* workspace, CudaStream stream);

}  // namespace segmamba::kernels
