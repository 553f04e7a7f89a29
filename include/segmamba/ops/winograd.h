#pragma once
// Convolution with 3^3 taps, stride 1 and padding 1 by Winograd's filtering: a third of the
// products, with the rounding of float32. For inference: without gradients, and on the CPU alone.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

namespace segmamba::ops {

// A convolution's weight [out, in, 3, 3, 3], float32 or float64, as winograd_convolution() takes
// it: [64, ceil(out / 16), in, 16], 2.4 times the numbers. Throws Error for any other.
at::Tensor winograd_weight(const at::Tensor& weight);

// torch::conv3d(x, weight, bias, stride 1, padding 1): x [B, in, D, H, W] -> [B, out, D, H, W],
// channels last, of x's type (float32, float64, bfloat16 or float16). `weight` is transformed;
// it and bias [out] are float64 for float64 data, else float32, as are all sums. Throws Error
// naming the argument.
at::Tensor winograd_convolution(const at::Tensor& x, const at::Tensor& weight,
                                const std::optional<at::Tensor>& bias, std::int64_t out_channels);

}  // namespace segmamba::ops
