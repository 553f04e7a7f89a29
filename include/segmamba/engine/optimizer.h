#pragma once
// SGD and AdamW over LibTorch's fused kernels, with a state that a checkpoint can hold.

#include <torch/torch.h>

#include <map>
#include <string>
#include <vector>

#include "segmamba/engine/train_config.h"

namespace segmamba::engine {

// A_log and D of Mamba layers (with their direction suffixes _b, _s), A_logs and Ds of VMamba:
// never decayed, because decay would pull the state's time constants towards one value.
bool is_exempt_from_decay(const std::string& parameter_name);

// The L2 norm of all gradients together, a scalar on their device.
torch::Tensor total_norm(const std::vector<torch::Tensor>& gradients);
// Scales gradients of the norm `norm` so that it is at most `max_norm` (0: no limit), as
// torch.nn.utils.clip_grad_norm_.
void clip(const std::vector<torch::Tensor>& gradients, double norm, double max_norm);

class Optimizer {
 public:
  Optimizer(const OptimizerConfig& config, const torch::nn::Module& module);

  // One update from the parameters' gradients.
  void step(double learning_rate);
  void zero_grad();
  // Of all parameters that have one.
  std::vector<torch::Tensor> gradients() const;

  // Running averages by "<slot>.<parameter>", e.g. "momentum_buffer.out.conv.conv.bias".
  std::map<std::string, torch::Tensor> state() const;
  // Throws Error naming the first slot that is missing or has another shape.
  void load_state(const std::map<std::string, torch::Tensor>& state);

 private:
  struct Group {  // parameters with the same weight decay
    double weight_decay;
    std::vector<std::string> names;
    std::vector<torch::Tensor> parameters;
    std::map<std::string, std::vector<torch::Tensor>> slots;
  };

  OptimizerConfig config_;
  std::vector<Group> groups_;
};

}  // namespace segmamba::engine
