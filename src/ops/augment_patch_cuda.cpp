#include "augment_patch_cuda.h"

#if defined(SEGMAMBA_WITH_CUDA)
#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "augment_cuda.h"
#else
#include "segmamba/core/error.h"
#endif

namespace segmamba::ops {

void augment_patch_on_gpu(const kernels::CaseView& from, const kernels::PatchTransform& transform,
                          const at::Tensor& image, const at::Tensor& labels) {
#if defined(SEGMAMBA_WITH_CUDA)
  const c10::cuda::CUDAGuard guard(image.device());
  const auto bytes = static_cast<std::int64_t>(kernels::augment_workspace_cuda(transform));
  // Freed when this returns, and used again by later work of the same stream only.
  const auto workspace = at::empty({bytes}, labels.options());
  kernels::augment_patch_cuda(
      from, transform, image.mutable_data_ptr<float>(), labels.mutable_data_ptr<std::uint8_t>(),
      workspace.mutable_data_ptr<std::uint8_t>(), c10::cuda::getCurrentCUDAStream().stream());
#else
  (void)from, (void)transform, (void)image, (void)labels;
  throw Error("this build of segmamba has no CUDA kernels");
#endif
}

}  // namespace segmamba::ops
