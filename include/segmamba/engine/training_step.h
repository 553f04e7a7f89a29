#pragma once
// One step of training: forward, loss, backward, clipping, update. Knows nothing of files.

#include <torch/torch.h>

#include <memory>

#include "segmamba/engine/optimizer.h"
#include "segmamba/engine/train_config.h"
#include "segmamba/nn/model.h"

namespace segmamba::engine {

struct StepResult {
  double loss = 0;
  double gradient_norm = 0;  // before clipping
  // Where loss or norm are not finite the parameters were left as they were.
  bool finite = true;
};

class TrainingStep {
 public:
  // `gradient_clip_norm` 0: no clipping.
  TrainingStep(std::shared_ptr<nn::SegmentationModel> model, const LossConfig& loss,
               const OptimizerConfig& optimizer, double gradient_clip_norm);

  // images [B, C, D, H, W]; labels [B, D, H, W]; both on the model's device.
  StepResult run(const torch::Tensor& images, const torch::Tensor& labels, double learning_rate);

  Optimizer& optimizer() { return optimizer_; }

 private:
  std::shared_ptr<nn::SegmentationModel> model_;
  LossConfig loss_;
  Optimizer optimizer_;
  double gradient_clip_norm_;
};

}  // namespace segmamba::engine
