#pragma once
// One update of training: forward, loss, backward, clipping, optimizer. Knows nothing of files.

#include <torch/torch.h>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "segmamba/data/regions.h"
#include "segmamba/engine/device_graph.h"
#include "segmamba/engine/distributed.h"
#include "segmamba/engine/optimizer.h"
#include "segmamba/engine/precision.h"
#include "segmamba/engine/train_config.h"
#include "segmamba/engine/weight_average.h"
#include "segmamba/nn/model.h"

namespace segmamba::engine {

struct StepResult {
  double loss = 0;           // mean over the batch, that of all ranks
  double gradient_norm = 0;  // before clipping
  double loss_scale = 1;     // of fp16, with which the gradients were made
  // Where loss or norm are not finite, weights and optimizer were left as they were, on all ranks,
  // and `culprit` says in words what was not finite first, and on which rank.
  bool finite = true;
  std::string culprit;
};

// Throws Error where training.graph asks for what the device, the number of ranks or
// training.recompute does not allow.
void check_recording(const TrainingConfig& config, const torch::Device& device, std::int64_t ranks);

class TrainingStep {
 public:
  // The model must be on its device. Throws Error where the config asks for what the device or the
  // number of ranks does not allow.
  TrainingStep(std::shared_ptr<nn::SegmentationModel> model, const TrainConfig& config,
               Ranks& ranks);

  // This rank's share of a batch: images [B, C, D, H, W], labels [B, D, H, W], both on the model's
  // device. With training.micro_batch_size the share is worked off in parts, whose gradients add up
  // to those of the whole. Losses that are ratios of sums over the batch (loss.batch_dice,
  // loss.class_weights) are formed part by part, over all ranks.
  StepResult run(const torch::Tensor& images, const torch::Tensor& labels, double learning_rate);

  // What a checkpoint holds beside the model.
  struct State {
    std::map<std::string, torch::Tensor> optimizer;
    GradientScaler::State scaler;
    std::map<std::string, torch::Tensor> average;  // empty without training.ema_decay
    std::int64_t average_updates = 0;
  };
  State state() const;
  // Throws Error naming what is missing. Without an average in `state` that of the model's weights
  // begins anew.
  void load(const State& state);

  // Null without training.ema_decay.
  WeightAverage* average() { return average_ ? &*average_ : nullptr; }

 private:
  torch::Tensor accumulate_gradients(const torch::Tensor& images, const torch::Tensor& labels);
  torch::Tensor replay_gradients(const torch::Tensor& images, const torch::Tensor& labels);
  std::string find_culprit(const torch::Tensor& images, bool loss_is_finite);

  std::shared_ptr<nn::SegmentationModel> model_;
  LossConfig loss_;
  std::vector<double> output_weights_;
  std::vector<data::Region> regions_;  // empty: the model's outputs are classes
  std::int64_t micro_batch_size_;
  double gradient_clip_norm_;
  Ranks& ranks_;
  std::optional<torch::ScalarType> autocast_type_;
  Optimizer optimizer_;
  GradientScaler scaler_;
  GradientAverager averager_;
  std::optional<WeightAverage> average_;
  // With training.graph: accumulate_gradients() recorded, and the tensors that it is of.
  struct Recording {
    DeviceGraph graph;
    torch::Tensor images, labels, loss;
    std::vector<std::pair<torch::Tensor, torch::Tensor>>
        gradients;  // of each parameter that has one
  };
  bool records_;
  std::int64_t steps_before_recording_ = 2;
  Recording recording_;
};

}  // namespace segmamba::engine
