#include "segmamba/engine/training_step.h"

#include <cmath>
#include <utility>

#include "segmamba/engine/losses.h"

namespace segmamba::engine {

TrainingStep::TrainingStep(std::shared_ptr<nn::SegmentationModel> model, const LossConfig& loss,
                           const OptimizerConfig& optimizer, double gradient_clip_norm)
    : model_(std::move(model)),
      loss_(loss),
      optimizer_(optimizer, *model_),
      gradient_clip_norm_(gradient_clip_norm) {}

StepResult TrainingStep::run(const torch::Tensor& images, const torch::Tensor& labels,
                             double learning_rate) {
  StepResult result;
  model_->train();
  optimizer_.zero_grad();
  const auto loss = segmentation_loss(loss_, model_->forward(images), labels);
  loss.backward();
  result.loss = loss.item<double>();
  result.gradient_norm = optimizer_.clip_gradients(gradient_clip_norm_);
  result.finite = std::isfinite(result.loss) && std::isfinite(result.gradient_norm);
  if (result.finite) optimizer_.step(learning_rate);
  return result;
}

}  // namespace segmamba::engine
