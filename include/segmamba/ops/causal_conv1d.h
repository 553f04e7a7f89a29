#pragma once
// Causal depth-wise convolution along a scan order, then SiLU.

#include <ATen/core/Tensor.h>

#include <vector>

#include "segmamba/ops/selective_scan.h"

namespace segmamba::ops {

// For each direction k and scan step t, with token(t) = orders[k]:
//   out[k, b, token(t), d] = silu(bias[k, d] + sum_j weight[k, d, j] x[b, token(t - (J-1) + j), d])
// where steps before 0 count as zero.
// x [B, L, D] (may be a strided view with unit stride in the last dimension); weight [K, D, J];
// bias [K, D]; returns [K, B, L, D], in memory (token) order. Throws Error as the scan does.
at::Tensor causal_conv1d_silu(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                              const std::vector<ScanOrder>& orders);

}  // namespace segmamba::ops
