#include "segmamba/engine/optimizer.h"

#include <utility>

#include "segmamba/core/error.h"
#include "segmamba/core/text.h"

namespace segmamba::engine {

bool is_exempt_from_decay(const std::string& parameter_name) {
  const std::string last = parameter_name.substr(parameter_name.rfind('.') + 1);
  for (const char* suffix : {"", "_b", "_s"}) {
    if (last == concat("A", suffix, "_log") || last == concat("D", suffix)) return true;
  }
  return last == "A_logs" || last == "Ds";  // VMamba's, of all its directions
}

namespace {

// Also where it is no vector: VMamba keeps the biases of its directions as a matrix, MedNeXt's
// response normalisation has [1, C, 1, 1, 1].
bool is_norm_or_bias(const std::string& name, const torch::Tensor& parameter) {
  const std::string last = name.substr(name.rfind('.') + 1);
  return parameter.dim() <= 1 || ends_with(last, "_bias") || starts_with(last, "grn_");
}

}  // namespace

Optimizer::Optimizer(const OptimizerConfig& config, const torch::nn::Module& module)
    : config_(config), groups_(2) {
  groups_[0].weight_decay = config.weight_decay;
  groups_[1].weight_decay = 0;
  for (const auto& item : module.named_parameters()) {
    const torch::Tensor& parameter = item.value();
    if (!parameter.requires_grad()) continue;
    const bool exempt = is_exempt_from_decay(item.key()) ||
                        (is_norm_or_bias(item.key(), parameter) && !config.decay_norms_and_biases);
    Group& group = groups_[exempt ? 1 : 0];
    group.names.push_back(item.key());
    group.parameters.push_back(parameter);
    // Zero momentum gives the same first step as PyTorch's missing one, as there is no dampening.
    if (config.name == "sgd") {
      if (config.momentum > 0) {
        group.slots["momentum_buffer"].push_back(torch::zeros_like(parameter));
      }
    } else {
      group.slots["exp_avg"].push_back(torch::zeros_like(parameter));
      group.slots["exp_avg_sq"].push_back(torch::zeros_like(parameter));
      group.slots["step"].push_back(
          torch::zeros({}, parameter.options().dtype(torch::kFloat).requires_grad(false)));
    }
  }
}

std::vector<torch::Tensor> Optimizer::gradients() const {
  std::vector<torch::Tensor> gradients;
  for (const auto& group : groups_) {
    for (const auto& parameter : group.parameters) {
      if (parameter.grad().defined()) gradients.push_back(parameter.grad());
    }
  }
  return gradients;
}

void Optimizer::zero_grad() {
  for (auto& group : groups_) {
    for (auto& parameter : group.parameters) parameter.mutable_grad().reset();
  }
}

torch::Tensor total_norm(const std::vector<torch::Tensor>& gradients) {
  return torch::stack(at::_foreach_norm(gradients, 2)).norm();
}

void clip(const std::vector<torch::Tensor>& gradients, double norm, double max_norm) {
  // The 1e-6 is PyTorch's.
  if (max_norm > 0 && norm > max_norm) at::_foreach_mul_(gradients, max_norm / (norm + 1e-6));
}

void Optimizer::step(double learning_rate) {
  const torch::NoGradGuard no_grad;
  for (auto& group : groups_) {
    std::vector<torch::Tensor> parameters, gradients;
    std::map<std::string, std::vector<torch::Tensor>> slots;
    for (std::size_t i = 0; i < group.parameters.size(); ++i) {
      const auto& gradient = group.parameters[i].grad();
      if (!gradient.defined()) continue;  // not part of this forward pass
      parameters.push_back(group.parameters[i]);
      gradients.push_back(gradient);
      for (auto& [name, tensors] : group.slots) slots[name].push_back(tensors[i]);
    }
    if (parameters.empty()) continue;
    if (config_.name == "sgd") {
      at::_fused_sgd_(parameters, gradients, slots["momentum_buffer"], group.weight_decay,
                      config_.momentum, learning_rate, /*dampening=*/0,
                      config_.nesterov && config_.momentum > 0,
                      /*maximize=*/false, /*is_first_step=*/false);
    } else {
      at::_foreach_add_(slots["step"], 1);
      at::_fused_adamw_(parameters, gradients, slots["exp_avg"], slots["exp_avg_sq"],
                        /*max_exp_avg_sqs=*/{}, slots["step"], learning_rate, config_.betas[0],
                        config_.betas[1], group.weight_decay, config_.eps, /*amsgrad=*/false,
                        /*maximize=*/false);
    }
  }
}

std::map<std::string, torch::Tensor> Optimizer::state() const {
  std::map<std::string, torch::Tensor> state;
  for (const auto& group : groups_) {
    for (const auto& [slot, tensors] : group.slots) {
      for (std::size_t i = 0; i < tensors.size(); ++i) {
        state[slot + "." + group.names[i]] = tensors[i];
      }
    }
  }
  return state;
}

void Optimizer::load_state(const std::map<std::string, torch::Tensor>& state) {
  const torch::NoGradGuard no_grad;
  for (auto& group : groups_) {
    for (auto& [slot, tensors] : group.slots) {
      for (std::size_t i = 0; i < tensors.size(); ++i) {
        const std::string name = slot + "." + group.names[i];
        const auto found = state.find(name);
        if (found == state.end()) throw Error(concat("the optimizer state lacks ", name));
        if (found->second.sizes() != tensors[i].sizes()) {
          throw Error(concat("the optimizer state ", name, " has shape [",
                             join(found->second.sizes(), ", "), "], expected [",
                             join(tensors[i].sizes(), ", "), "]"));
        }
        tensors[i].copy_(found->second);
      }
    }
  }
}

}  // namespace segmamba::engine
