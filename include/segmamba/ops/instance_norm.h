#pragma once
// Instance norm with the steps that follow it in a network, in one pass over memory. For inference:
// without gradients, and on the CPU alone.

#include <ATen/core/Tensor.h>

namespace segmamba::ops {

// out = act(weight norm(x) + bias + shortcut) + residual, act(v) = v for v > 0 and slope v
// elsewhere.
struct AfterNorm {
  at::Tensor shortcut = {};          // undefined: none
  bool normalises_shortcut = false;  // it is norm(shortcut) that is added
  double slope = 1;                  // 0: ReLU, 1: no activation
  at::Tensor residual = {};          // undefined: none
  // [C] each; undefined: 1 and 0. Those of the shortcut apply where it is normalised.
  at::Tensor weight = {}, bias = {};
  at::Tensor shortcut_weight = {}, shortcut_bias = {};
};

// norm(x) = (x - mean) / sqrt(var + 1e-5), mean and biased variance over each channel of each item.
// x [B, C, ...], float32, float64, bfloat16 or float16, contiguous or channels last (anything else
// is copied); shortcut and residual have its type and shape, weights and biases its type or, where
// it has 16 bits, float32. The statistics are float64 sums of exact parts, so that a large mean
// does no harm. The result has the memory format of x, and its memory where the caller gave its
// last reference away. Throws Error naming the argument.
at::Tensor instance_norm(at::Tensor x, const AfterNorm& after);

}  // namespace segmamba::ops
