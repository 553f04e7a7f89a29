#pragma once
// The inner part of a Mamba layer over K directions, for inference on the CPU: for each direction k
//
//   x_k = silu(causal convolution of x)                  causal_conv1d.h
//   [dt_k, B_k, C_k] = x_proj_k x_k
//   y_k = scan_k(x_k, softplus(dt_proj_k dt_k + delta_bias_k), A_k, B_k, C_k, D_k)
//
// and out = silu(z) sum_k y_k, selective_scan.h. Of what lies between, only dt, B and C of one
// direction are ever in memory: R + 2N numbers a token. All memory belongs to the caller; results
// do not depend on the number of threads. T: float, double, BFloat16, Float16.

#include "causal_conv1d.h"
#include "selective_scan.h"

namespace segmamba::kernels {

template <class T>
struct MambaInner {
  std::int32_t directions, batch, length;
  std::int32_t channels;            // E
  std::int32_t states, taps, rank;  // N, J, R
  const ScanMap* maps;              // [K]
  const T* xz;                      // [B, L, 2E]: x, then z
  const State<T>* conv_weight;      // [K, E, J]
  const State<T>* conv_bias;        // [K, E]
  const T* x_proj;                  // [K, R + 2N, E]
  const T* dt_proj;                 // [K, E, R]
  const State<T>* A;                // [K, E, N]
  const State<T>* D;                // [K, E]
  const State<T>* delta_bias;       // [K, E]
  T* out;                           // [B, L, E]
};

// Whether there are enough sequences to keep a machine busy: each is scanned by one thread from its
// beginning to its end.
template <class T>
bool suits_mamba_inner(const MambaInner<T>& inner);

template <class T>
void mamba_inner_forward_cpu(const MambaInner<T>& inner, const Workers& workers);

}  // namespace segmamba::kernels
