#pragma once
// The selective scan (Mamba; arXiv 2312.00752, Algorithm 2) as an operator with gradients.
//   delta' = softplus(delta + delta_bias)         (softplus and bias where asked for)
//   h_t = exp(delta'_t A) h_{t-1} + delta'_t B_t x_t
//   y_t = C_t . h_t + D x_t;   out_t = y_t silu(z_t)
// Token-major layout [batch, length, channels]. Arguments that do not fit throw Error by name.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <vector>

namespace segmamba::ops {

// The order in which a scan walks tokens stored in memory order: an index map, nothing is copied.
// Step t = (i0 * extent[1] + i1) * extent[2] + i2 visits token i0*stride[0] + i1*stride[1] +
// i2*stride[2]; `reversed` walks the same path from its end.
struct ScanOrder {
  std::int64_t extent[3];
  std::int64_t stride[3];
  bool reversed = false;

  static ScanOrder forward(std::int64_t length);
  static ScanOrder reverse(std::int64_t length);
  // t -> (t mod slices) * (length / slices) + t / slices. length must be a multiple of slices.
  static ScanOrder interslice(std::int64_t length, std::int64_t slices);
};

// One direction, forward order: the operator segmamba::selective_scan.
// x, delta, z [B, L, D]; A [D, N]; B, C [B, L, N]; D, delta_bias [D]; returns [B, L, D].
at::Tensor selective_scan(const at::Tensor& x, const at::Tensor& delta, const at::Tensor& A,
                          const at::Tensor& B, const at::Tensor& C,
                          const std::optional<at::Tensor>& D = std::nullopt,
                          const std::optional<at::Tensor>& z = std::nullopt,
                          const std::optional<at::Tensor>& delta_bias = std::nullopt,
                          bool delta_softplus = false);

// K directions in one launch, each with its own inputs, summed, then gated once:
//   out = silu(z) * sum_k scan_k(...).
// Everything is stored in memory (token) order; only the walk differs by orders[k].
// x, delta [K, B, L, D]; A [K, D, N]; B, C [K, B, L, N]; D, delta_bias [K, D]; z [B, L, D] (may be
// a strided view: unit stride in the last dimension is enough); returns [B, L, D].
at::Tensor selective_scan_directions(const at::Tensor& x, const at::Tensor& delta,
                                     const at::Tensor& A, const at::Tensor& B, const at::Tensor& C,
                                     const std::optional<at::Tensor>& D,
                                     const std::optional<at::Tensor>& z,
                                     const std::optional<at::Tensor>& delta_bias,
                                     bool delta_softplus, const std::vector<ScanOrder>& orders);

}  // namespace segmamba::ops
