#include "segmamba/ops/augment_patch.h"

#include <ATen/ops/tensor.h>

#include "augment.h"
#include "augment_patch_cuda.h"
#include "segmamba/core/error.h"
#include "segmamba/core/text.h"

namespace segmamba::ops {
namespace {

void require(bool holds, const char* what) {
  if (!holds) throw Error(concat("augment_patch: ", what));
}

}  // namespace

void augment_patch(const at::Tensor& image, const at::Tensor& labels,
                   const std::vector<float>& outside, const kernels::PatchTransform& transform,
                   const at::Tensor& patch_image, const at::Tensor& patch_labels) {
  const auto fits = [&](const at::Tensor& tensor, at::ScalarType type, std::int64_t dimensions) {
    return tensor.scalar_type() == type && tensor.dim() == dimensions && tensor.is_contiguous() &&
           tensor.device() == image.device();
  };
  require(fits(image, at::kHalf, 4), "image must be a contiguous float16 [D, H, W, C]");
  require(!labels.defined() ||
              (fits(labels, at::kByte, 3) && labels.sizes() == image.sizes().slice(0, 3)),
          "labels must be a contiguous uint8 [D, H, W] of the image's size and device");
  const auto& size = transform.map.size;
  const std::int64_t channels = image.size(3);
  require(fits(patch_image, at::kFloat, 4) &&
              patch_image.sizes() == at::IntArrayRef({channels, size[0], size[1], size[2]}),
          "patch_image must be a contiguous float32 [C, d, h, w] of the transform's size");
  require(fits(patch_labels, at::kByte, 3) &&
              patch_labels.sizes() == at::IntArrayRef({size[0], size[1], size[2]}),
          "patch_labels must be a contiguous uint8 [d, h, w] of the transform's size");
  require(static_cast<std::int64_t>(outside.size()) == channels &&
              static_cast<std::int64_t>(transform.channels.size()) == channels,
          "outside and the transform must have as many channels as the image");

  const auto values = at::tensor(outside, at::kFloat).to(image.device());
  kernels::CaseView view;
  view.image = static_cast<const std::uint16_t*>(image.const_data_ptr());
  view.labels = labels.defined() ? labels.const_data_ptr<std::uint8_t>() : nullptr;
  view.outside = values.const_data_ptr<float>();
  view.channels = static_cast<std::int32_t>(channels);
  for (int axis = 0; axis < 3; ++axis) {
    view.size[axis] = static_cast<std::int32_t>(image.size(axis));
  }
  if (image.is_cuda()) {
    augment_patch_on_gpu(view, transform, patch_image, patch_labels);
    return;
  }
  kernels::AugmentScratch scratch;
  kernels::augment_patch_cpu(view, transform, patch_image.mutable_data_ptr<float>(),
                             patch_labels.mutable_data_ptr<std::uint8_t>(), scratch);
}

}  // namespace segmamba::ops
