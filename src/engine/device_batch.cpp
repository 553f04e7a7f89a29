#include "segmamba/engine/device_batch.h"

#include "augment.h"
#include "segmamba/ops/augment_patch.h"

namespace segmamba::engine {
namespace {

// A view of the loader's memory. from_blob wants a mutable pointer; nothing writes through it.
template <class T>
torch::Tensor view_of(std::span<const T> values, torch::IntArrayRef shape, torch::ScalarType type) {
  return torch::from_blob(const_cast<T*>(values.data()), shape, type);
}

}  // namespace

DeviceBatch to_device(const data::Batch& batch, const torch::Device& device) {
  const auto& shape = batch.shape;
  const std::vector<std::int64_t> labels_shape = {shape[0], shape[2], shape[3], shape[4]};
  if (batch.cuts.empty()) {
    return {torch::from_blob(batch.images.data(), shape).to(device, /*non_blocking=*/true),
            torch::from_blob(batch.labels.data(), labels_shape, torch::kUInt8)
                .to(device, /*non_blocking=*/true)
                .to(torch::kLong)};
  }
  const auto images = torch::empty(shape, torch::TensorOptions(device));
  const auto labels = torch::empty(labels_shape, torch::TensorOptions(device).dtype(torch::kUInt8));
  for (std::size_t b = 0; b < batch.cuts.size(); ++b) {
    const auto& [part, begin, plan] = batch.cuts[b];
    const auto& [depth, height, width] = part.size;
    const auto image =
        view_of(part.image, {depth, height, width, part.channels}, torch::kHalf).to(device);
    torch::Tensor part_labels;
    if (!part.labels.empty()) {
      part_labels = view_of(part.labels, {depth, height, width}, torch::kUInt8).to(device);
    }
    const auto place = static_cast<std::int64_t>(b);
    ops::augment_patch(image, part_labels, part.outside, data::lower(plan, begin), images[place],
                       labels[place]);
  }
  return {images, labels.to(torch::kLong)};
}

}  // namespace segmamba::engine
