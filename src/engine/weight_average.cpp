#include "segmamba/engine/weight_average.h"

#include <algorithm>

#include "segmamba/core/error.h"
#include "segmamba/core/text.h"

namespace segmamba::engine {

WeightAverage::WeightAverage(const torch::nn::Module& module, double decay) : decay_(decay) {
  const torch::NoGradGuard no_grad;
  for (const auto& item : module.named_parameters()) {
    names_.push_back(item.key());
    weights_.push_back(item.value());
    average_.push_back(item.value().detach().clone());
  }
}

void WeightAverage::update() {
  const torch::NoGradGuard no_grad;
  const auto n = static_cast<double>(updates_++);
  const double decay = std::min(decay_, (1 + n) / (10 + n));
  at::_foreach_lerp_(average_, weights_, 1 - decay);
}

void WeightAverage::exchange() {
  const torch::NoGradGuard no_grad;
  for (std::size_t i = 0; i < weights_.size(); ++i) {
    const auto weight = weights_[i].detach();
    // The parameter stays the same tensor for whoever holds it; only its memory changes.
    weights_[i].set_data(average_[i]);
    average_[i] = weight;
  }
}

std::map<std::string, torch::Tensor> WeightAverage::state() const {
  std::map<std::string, torch::Tensor> state;
  for (std::size_t i = 0; i < names_.size(); ++i) state[names_[i]] = average_[i];
  return state;
}

void WeightAverage::load(const std::map<std::string, torch::Tensor>& average,
                         std::int64_t updates) {
  const torch::NoGradGuard no_grad;
  for (std::size_t i = 0; i < names_.size(); ++i) {
    const auto found = average.find(names_[i]);
    if (found == average.end()) throw Error("the average of the weights lacks " + names_[i]);
    if (found->second.sizes() != average_[i].sizes()) {
      throw Error(concat("the average of the weight ", names_[i], " has shape [",
                         join(found->second.sizes(), ", "), "], expected [",
                         join(average_[i].sizes(), ", "), "]"));
    }
    average_[i].copy_(found->second);
  }
  updates_ = updates;
}

}  // namespace segmamba::engine
