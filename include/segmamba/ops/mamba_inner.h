#pragma once
// The inner part of a Mamba layer over K scan directions as one operator: what lies between its two
// outer projections (mamba_inner_fn of github.com/state-spaces/mamba, for several directions).

#include <ATen/core/Tensor.h>

#include <vector>

#include "segmamba/ops/selective_scan.h"

namespace segmamba::ops {

// Parameters of the K directions, stacked. All but the projections are float32 where the data are
// float32 or 16-bit, and float64 where they are.
struct MambaParameters {
  at::Tensor conv_weight;  // [K, E, J]
  at::Tensor conv_bias;    // [K, E]
  at::Tensor x_proj;       // [K, R + 2N, E], of the data's type
  at::Tensor dt_proj;      // [K, E, R], of the data's type
  at::Tensor A;            // [K, E, N], negative: -exp(A_log)
  at::Tensor D;            // [K, E]
  at::Tensor delta_bias;   // [K, E]: dt_proj's bias
};

// xz [B, L, 2E] -> [B, L, E]. With x and z its two halves, for each direction k
//   x_k = causal_conv1d_silu(x, conv_weight_k, conv_bias_k)
//   [dt_k, B_k, C_k] = x_proj_k x_k
//   y_k = scan_k(x_k, softplus(dt_proj_k dt_k + delta_bias_k), A_k, B_k, C_k, D_k)
// and out = silu(z) * sum_k y_k.
//
// Directions are treated one after another, so that one direction's activations exist at a time,
// and the backward forms them again. Kept for it, beside xz and the parameters: the sum of y_k
// [B, L, E] in xz's type, and the scans' states every 64 steps [K, B, ceil(L / 64), N, E] in
// float32 (float64). Throws Error naming the argument that does not fit.
at::Tensor mamba_inner(const at::Tensor& xz, const MambaParameters& parameters,
                       const std::vector<ScanOrder>& orders);

// As MambaParameters, without the convolutions.
struct CrossScanParameters {
  at::Tensor x_proj, dt_proj, A, D, delta_bias;
};

// The projections and scans alone, all of the same x [B, L, E] -> [B, L, E]: for each direction k
//   [dt_k, B_k, C_k] = x_proj_k x
//   y_k = scan_k(x, softplus(dt_proj_k dt_k + delta_bias_k), A_k, B_k, C_k, D_k)
// and out = sum_k y_k. One direction's activations exist at a time, as in mamba_inner(); kept for
// the backward are x and the scans' states.
at::Tensor cross_scan(const at::Tensor& x, const CrossScanParameters& parameters,
                      const std::vector<ScanOrder>& orders);

}  // namespace segmamba::ops
