#pragma once
// Instance norm with the steps that follow it in a network, in two passes over memory, forward and
// backward.

#include <ATen/core/Tensor.h>

#include <functional>

namespace segmamba::ops {

inline constexpr double kNormEpsilon = 1e-5;

// out = act(weight norm(x) + bias + shortcut) + residual, act(v) = v for v > 0 and slope v
// elsewhere.
struct AfterNorm {
  at::Tensor shortcut = {};  // undefined: none
  // Forms the shortcut again, for gradients, which keep this instead of it; empty: they keep it.
  std::function<at::Tensor()> form_shortcut = {};
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
// last reference away. For gradients, kept are the statistics, the shortcut and x, or instead of x
// the output, which the next layer keeps as well: where x follows from it (a slope over 0, no
// residual, neither weights nor biases). On the CPU results are the same bits for any number of
// threads, on a GPU for every run. A second derivative throws. Throws Error naming the argument.
at::Tensor instance_norm(at::Tensor x, const AfterNorm& after);

}  // namespace segmamba::ops
