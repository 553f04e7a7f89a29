#pragma once

#include <torch/torch.h>

#include "segmamba/data/batch_loader.h"

namespace segmamba::engine {

// A batch where the model is.
struct DeviceBatch {
  torch::Tensor images;  // [B, C, D, H, W], float32
  torch::Tensor labels;  // [B, D, H, W], int64
};

// Copies a batch to the device, or augments it there where it holds cuts. Copies from pinned memory
// may still run when this returns: `batch` must stay until work on the result has ended.
DeviceBatch to_device(const data::Batch& batch, const torch::Device& device);

}  // namespace segmamba::engine
