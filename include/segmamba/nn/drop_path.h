#pragma once
// Stochastic depth (arXiv 1603.09382).

#include <torch/torch.h>

#include <cstdint>
#include <vector>

namespace segmamba::nn {

// In training, leaves out the branch `x` of each item of the batch with probability `rate` and
// scales the others by 1 / (1 - rate); x itself otherwise. [B, ...] -> the same.
torch::Tensor drop_path(const torch::Tensor& x, double rate, bool training);

// From 0 to `last`, one rate a block, rising linearly.
std::vector<double> drop_path_rates(double last, std::int64_t blocks);

}  // namespace segmamba::nn
