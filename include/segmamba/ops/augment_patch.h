#pragma once
// A training patch, cut and augmented on the device of its case.

#include <ATen/core/Tensor.h>

#include <vector>

namespace segmamba::kernels {
struct PatchTransform;
}  // namespace segmamba::kernels

namespace segmamba::ops {

// What kernels/augment.h does with the case `image` [D, H, W, C] (float16) and `labels` [D, H, W]
// (uint8; undefined where there are none), both contiguous and on the CPU or a GPU. `outside` [C]
// are the values of voxels beyond the case. Writes into patch_image [C, d, h, w] (float32) and
// patch_labels [d, h, w] (uint8), contiguous, on the same device; on a GPU in the current stream.
// CPU and GPU agree up to rounding. Throws Error where types, shapes or devices do not fit.
void augment_patch(const at::Tensor& image, const at::Tensor& labels,
                   const std::vector<float>& outside, const kernels::PatchTransform& transform,
                   const at::Tensor& patch_image, const at::Tensor& patch_labels);

}  // namespace segmamba::ops
