#pragma once
// What training minimises. Differentiable, and deterministic on CUDA: no scatter, no atomics.
// Computed in float32 (float64 of float64 logits) whatever the type of the logits, under autocast
// too.

#include <ATen/core/Tensor.h>

#include <functional>
#include <vector>

#include "segmamba/data/regions.h"
#include "segmamba/engine/train_config.h"

namespace segmamba::engine {

// Sums a small tensor over the ranks of a run, gradients too; see Ranks::sum().
using SumOverRanks = std::function<at::Tensor(const at::Tensor&)>;

// The loss of a config at one resolution, a scalar: the weighted sum of the terms that config.name
// lists. logits [B, K, D, H, W]; labels [B, D, H, W], integers 0..classes-1.
//
// Without regions the outputs are classes (softmax), p_c their probabilities and g_c the one-hot
// labels. With regions each output is binary (sigmoid), p_c the probability of region c and g_c
// whether the label is among its classes. q is the probability of what the label says: without
// regions that of its class, one a voxel; with regions p_c where g_c, else 1 - p_c, one a voxel and
// region.
//
//   cross_entropy  mean of -log q
//   focal          mean of -(1 - q)^focal_gamma log q; Lin et al., "Focal Loss for Dense Object
//                  Detection", ICCV 2017, Eq. 4
//   dice           1 - mean over outputs c of
//                    (2 sum p_c g_c + smooth) / (sum p_c + sum g_c + smooth),
//                  summed over voxels and, with batch_dice, over the batch (otherwise the mean also
//                  runs over its patches); without regions class 0 counts with include_background
//                  only. Milletari et al., "V-Net", 3DV 2016, without the squares, as nnU-Net has
//                  it
//
// With class_weights every mean is a weighted one, sum w x / sum w, w the weight of the output: of
// the label's class in cross-entropy and focal without regions, as in PyTorch.
//
// `sum_over_ranks` makes the batch that of all ranks together where the mean over ranks of each
// rank's loss would not: in batch_dice, and in the weighted means over voxels. Every rank then has
// the same value of these terms. It is called equally often on each.
at::Tensor segmentation_loss(const LossConfig& config, const at::Tensor& logits,
                             const at::Tensor& labels,
                             const std::vector<data::Region>& regions = {},
                             const SumOverRanks& sum_over_ranks = {});

// The sum over outputs i of weight i * segmentation_loss. outputs[0] [B, K, D, H, W] has the
// resolution of the labels, the others lower ones; labels are brought down to them by
// nearest-exact, as nnU-Net does (batchgeneratorsv2, DownsampleSegForDSTransform). Outputs of
// weight 0 are part of the sum, so that every parameter has a gradient.
at::Tensor deep_supervision_loss(const LossConfig& config, const std::vector<double>& weights,
                                 const std::vector<at::Tensor>& outputs, const at::Tensor& labels,
                                 const std::vector<data::Region>& regions = {},
                                 const SumOverRanks& sum_over_ranks = {});

// config.deep_supervision_weights; where there are none 1, 1/2, 1/4, ... divided by their sum, the
// last of `count` outputs having 0 instead where the network's original does not train the coarsest
// one (nnUNetTrainer._build_loss). One output has weight 1. Throws Error where the config's are not
// `count`.
std::vector<double> deep_supervision_weights(const LossConfig& config, std::size_t count,
                                             bool trains_coarsest);

// labels [B, D, H, W] at another size [D', H', W'], of the same type: the one at index
// floor((i + 0.5) D / D') of each axis.
at::Tensor resize_labels(const at::Tensor& labels, at::IntArrayRef size);

}  // namespace segmamba::engine
