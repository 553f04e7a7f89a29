#pragma once
// What a model costs, counted on shapes alone.

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "segmamba/nn/model.h"

namespace segmamba::nn {

// Memory is that of tensors; workspaces of the libraries beneath (oneDNN, cuDNN) and what an
// allocator cannot use come on top. All of it is counted on LibTorch's meta device, which computes
// shapes only: no time and no memory.

struct ForwardCost {
  // Multiply-adds of convolutions and matrix products, and of the scans: K for a causal convolution
  // of K taps, 3 for each state of a scan step (decay, input, output).
  std::int64_t multiply_adds = 0;
  // Largest sum of live tensors in a forward pass without gradients, input and output included,
  // weights not.
  std::int64_t peak_bytes = 0;
};

// Of a float32 input of shape `input_sizes`, [B, C, D, H, W]. On the CPU, memory counts the
// unfolded inputs of LibTorch's own convolutions, too. Throws Error as the model's forward.
ForwardCost forward_cost(const ModelConfig& config, const std::vector<std::int64_t>& input_sizes,
                         torch::DeviceType device = torch::kCUDA);

// A forward and a backward pass.
struct TrainingPass {
  std::vector<std::int64_t> input_sizes;     // [B, C, D, H, W]
  std::vector<std::string> recomputed = {};  // as SegmentationModel::set_recomputed()
  // torch::kBFloat16 or kHalf: mixed precision, as autocast does it on `device`; float32 without.
  std::optional<torch::ScalarType> autocast = {};
  torch::DeviceType device = torch::kCUDA;
  // Of what forward_deep() gives, in its type; called without autocast. Empty: gradients of the
  // outputs stand in.
  std::function<torch::Tensor(const std::vector<torch::Tensor>& outputs)> loss = {};
};

struct TrainingCost {
  // What the forward pass keeps for the backward pass, input and output included.
  std::int64_t kept_bytes = 0;
  // Largest sum of live tensors in both, beside the weights and their gradients.
  std::int64_t peak_bytes = 0;
};

// Throws Error as the model's forward and set_recomputed().
TrainingCost training_cost(const ModelConfig& config, const TrainingPass& pass);

// How much less a float32 forward pass keeps where a part is recomputed, part by part.
std::vector<std::pair<std::string, std::int64_t>> bytes_kept_by_part(
    const ModelConfig& config, const std::vector<std::int64_t>& input_sizes);

// Number of parameters of each part, in the order of the module; a part is named by the beginning
// of its parameters' names through their first index ("vit.stages.0"), or by the first word
// ("encoder1").
std::vector<std::pair<std::string, std::int64_t>> parameters_by_part(
    const torch::nn::Module& module);
std::int64_t parameter_count(const torch::nn::Module& module);

}  // namespace segmamba::nn
