#pragma once
// What training minimises. Differentiable, and deterministic on CUDA: no scatter, no atomics.

#include <ATen/core/Tensor.h>

#include "segmamba/engine/train_config.h"

namespace segmamba::engine {

// logits [B, K, D, H, W]; labels [B, D, H, W], integers 0..K-1. Returns a scalar.

// Mean over all voxels of -log softmax(logits)[label].
at::Tensor cross_entropy(const at::Tensor& logits, const at::Tensor& labels);

// 1 - mean over classes c of
//   (2 sum p_c g_c + smooth) / (sum p_c + sum g_c + smooth),
// p the softmax and g the one-hot labels, summed over voxels and, with `batch_dice`, over the batch
// (otherwise the mean also runs over its patches). Milletari et al., "V-Net", 3DV 2016, without the
// squares, as nnU-Net has it.
at::Tensor soft_dice_loss(const at::Tensor& logits, const at::Tensor& labels,
                          bool include_background, bool batch_dice, double smooth);

// The loss of a config.
at::Tensor segmentation_loss(const LossConfig& config, const at::Tensor& logits,
                             const at::Tensor& labels);

}  // namespace segmamba::engine
