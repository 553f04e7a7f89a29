#pragma once
// What a model costs, counted on shapes alone.

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "segmamba/nn/model.h"

namespace segmamba::nn {

struct ForwardCost {
  // Multiply-adds of convolutions and matrix products, and of the scans: K for a causal convolution
  // of K taps, 3 for each state of a scan step (decay, input, output).
  std::int64_t multiply_adds = 0;
  // Largest sum of live tensors in a forward pass without gradients, input and output included,
  // weights not. Workspaces of the libraries beneath (oneDNN, cuDNN) come on top.
  std::int64_t inference_bytes = 0;
  // What a forward pass keeps for the backward pass, input and output included.
  std::int64_t training_bytes = 0;
};

// Of a float32 input of shape `input_sizes`, [B, C, D, H, W]. Runs the model on LibTorch's meta
// device, which computes shapes only: no time and no memory. Throws Error as the model's forward.
ForwardCost forward_cost(const ModelConfig& config, const std::vector<std::int64_t>& input_sizes);

// Number of parameters of each part, in the order of the module; a part is named by the beginning
// of its parameters' names through their first index ("vit.stages.0"), or by the first word
// ("encoder1").
std::vector<std::pair<std::string, std::int64_t>> parameters_by_part(
    const torch::nn::Module& module);
std::int64_t parameter_count(const torch::nn::Module& module);

}  // namespace segmamba::nn
