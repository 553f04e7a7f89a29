#pragma once
// Augmentation on the GPU.

#include <cstddef>

#include "augment.h"
#include "selective_scan.h"

namespace segmamba::kernels {

// Bytes of memory on the device that the transform's patch takes besides its case and itself.
std::size_t augment_workspace_cuda(const PatchTransform& transform);

// As augment_patch_cpu(), up to rounding, on the stream; the same bits every time. All pointers,
// those of `from` included, are of the device; the case's image starts at a multiple of 8 bytes,
// the workspace at one of 256. The case may be the part of it that the patch reads
// (segmamba/data/augment.h, cut()). Returns before the patch is done; `transform` may go then, the
// memory on the device may not. Throws Error where the GPU refuses, or a standard deviation of a
// blur is above 16 voxels.
void augment_patch_cuda(const CaseView& from, const PatchTransform& transform,
                        float* image,          // [C, D, H, W]
                        std::uint8_t* labels,  // [D, H, W]; all 0 where the case has none
                        void* workspace, CudaStream stream);

}  // namespace segmamba::kernels
