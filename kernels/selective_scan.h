#pragma once
// The selective scan of Mamba (arXiv 2312.00752, Algorithm 2) over K directions, each with its own
// inputs and its own path t -> token through the same L tokens:
//
//   d_t   = softplus(delta_t + delta_bias)                (bias and softplus where asked for)
//   h_t   = exp(d_t A) h_{t-1} + d_t B_t x_t              h_{-1} = 0, elementwise over [D, N]
//   y_t   = C_t . h_t + D x_t                             the dot product is over the N states
//   out_l = silu(z_l) * sum_k y_{k, t_k(l)}               (no z: the sum itself)
//
// Everything is stored in memory (token) order; a direction is an index map (ScanMap). All memory
// belongs to the caller. Results do not depend on the number of threads: every sum has a fixed
// order and nothing is added atomically. Without tokens (B or L zero) nothing is done.
//
// T is the element type in memory. The state, A, D, delta_bias and every accumulation have the type
// State<T>: float for float and the 16-bit types, double for double.

#include <cstddef>
#include <cstdint>

#include "scan_map.h"
#include "segmamba/core/parallel.h"

struct CUstream_st;  // CUDA's; declared here it is the same type without CUDA's headers

namespace segmamba::kernels {

// 16-bit numbers as they lie in memory.
struct BFloat16 {
  std::uint16_t bits;
};
struct Float16 {
  std::uint16_t bits;
};

template <class T>
struct StateOf {
  using type = float;
};
template <>
struct StateOf<double> {
  using type = double;
};
template <class T>
using State = typename StateOf<T>::type;

struct ScanShape {
  std::int32_t directions;  // K
  std::int32_t batch;       // B
  std::int32_t length;      // L
  std::int32_t channels;    // D
  std::int32_t states;      // N, at most kMaxStates
};

inline constexpr int kMaxStates = 64;

template <class T>
struct ScanInputs {
  ScanShape shape;
  const ScanMap* maps;         // [K], in host memory
  Rows<const T> x;             // [K, B, L, D]
  Rows<const T> delta;         // [K, B, L, D]
  Rows<const T> B;             // [K, B, L, N]
  Rows<const T> C;             // [K, B, L, N]
  Rows<const T> z;             // [B, L, D], or data = nullptr: no gate
  const State<T>* A;           // [K, D, N]
  const State<T>* D;           // [K, D], or nullptr: no skip
  const State<T>* delta_bias;  // [K, D], or nullptr
  bool delta_softplus;
};

template <class T>
struct ScanOutputs {
  T* out;                 // [B, L, D], or nullptr where only `ungated` is wanted
  State<T>* ungated;      // [B, L, D]: the sum over directions before the gate. Needed for the
                          // backward of a gated scan; nullptr: not kept
  State<T>* checkpoints;  // scan_checkpoint_count() numbers for the backward; nullptr: not kept
  bool adds = false;      // to what `ungated` holds: directions scanned by earlier calls
};

template <class T>
struct ScanGradients {
  const T* out;                 // [B, L, D]: gradient of `out`
  const State<T>* ungated;      // as the forward left it (nullptr without a gate)
  const State<T>* checkpoints;  // as the forward left them
  T* x;                         // [K, B, L, D]
  T* delta;                     // [K, B, L, D]
  T* B;                         // [K, B, L, N]
  T* C;                         // [K, B, L, N]
  T* z;                         // [B, L, D], or nullptr
  State<T>* A;                  // [K, D, N]
  State<T>* D;                  // [K, D], or nullptr
  State<T>* delta_bias;         // [K, D], or nullptr
};

// The CPU keeps the state at the start of every kCpuChunk steps, [K, B, chunks, N, D] with N and D
// rounded up, and nothing else of size L * D * N exists at any time.
inline constexpr int kCpuChunk = 64;
std::size_t scan_checkpoint_count_cpu(const ScanShape& shape);

// T: float, double, BFloat16, Float16.
template <class T>
void selective_scan_forward_cpu(const ScanInputs<T>& in, const ScanOutputs<T>& out,
                                const Workers& workers);
template <class T>
void selective_scan_backward_cpu(const ScanInputs<T>& in, const ScanGradients<T>& grad,
                                 const Workers& workers);

// The CUDA path keeps the state at the start of every kCudaChunk steps, [K, B, chunks, N, D]. T:
// float, double, BFloat16, Float16; all pointers but `maps` are device memory; work is queued on
// `stream`. `workspace` holds scan_*_workspace_cuda<S>() numbers of type S = State<T>; the count
// holds for the current device. Throws Error where CUDA refuses a launch.
inline constexpr int kCudaChunk = 64;
std::size_t scan_checkpoint_count_cuda(const ScanShape& shape);
template <class S>
std::size_t scan_forward_workspace_cuda(const ScanShape& shape);
template <class S>
std::size_t scan_backward_workspace_cuda(const ScanShape& shape);

using CudaStream = struct CUstream_st*;
template <class T>
void selective_scan_forward_cuda(const ScanInputs<T>& in, const ScanOutputs<T>& out,
                                 State<T>* workspace, CudaStream stream);
template <class T>
void selective_scan_backward_cuda(const ScanInputs<T>& in, const ScanGradients<T>& grad,
                                  State<T>* workspace, CudaStream stream);

}  // namespace segmamba::kernels
