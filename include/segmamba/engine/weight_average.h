#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace segmamba::engine {

// Exponential moving average of a module's parameters (Polyak averaging):
//   e <- d e + (1 - d) w after each update,
// with d = min(decay, (1 + n) / (10 + n)) after n updates, so that the first random weights are
// forgotten soon (as tf.train.ExponentialMovingAverage). Buffers are not averaged.
class WeightAverage {
 public:
  WeightAverage(const torch::nn::Module& module, double decay);

  void update();

  // Exchanges the module's weights with their average: once to use it, once more to go back.
  void exchange();

  // The average by parameter name; where it is in use, the module's weights.
  std::map<std::string, torch::Tensor> state() const;
  std::int64_t updates() const { return updates_; }
  // Throws Error naming the first parameter that is missing or has another shape.
  void load(const std::map<std::string, torch::Tensor>& average, std::int64_t updates);

 private:
  double decay_;
  std::int64_t updates_ = 0;
  std::vector<std::string> names_;
  std::vector<torch::Tensor> weights_, average_;
};

// The average in the place of the weights while it lives. Null: nothing.
class AverageInUse {
 public:
  explicit AverageInUse(WeightAverage* average) : average_(average) {
    if (average_ != nullptr) average_->exchange();
  }
  ~AverageInUse() {
    if (average_ != nullptr) average_->exchange();
  }
  AverageInUse(const AverageInUse&) = delete;
  AverageInUse& operator=(const AverageInUse&) = delete;

 private:
  WeightAverage* average_;
};

}  // namespace segmamba::engine
