#pragma once

#include <ATen/core/Tensor.h>

#include "augment.h"

namespace segmamba::ops {

// `from` holds pointers of the patch's device. Throws Error in a build without CUDA.
void augment_patch_on_gpu(const kernels::CaseView& from, const kernels::PatchTransform& transform,
                          const at::Tensor& image, const at::Tensor& labels);

}  // namespace segmamba::ops
