#pragma once
// Segmentation networks by name.

#include <torch/torch.h>

#include <memory>

#include "segmamba/nn/model_config.h"

namespace segmamba::nn {

// Every network of the framework. Input [B, C, D, H, W] float; logits [B, classes, D, H, W].
class SegmentationModel : public torch::nn::Module {
 public:
  using torch::nn::Module::Module;
  virtual torch::Tensor forward(const torch::Tensor& input) = 0;
  // Each spatial size of an input must be a multiple of this.
  virtual std::int64_t size_multiple() const = 0;
};

// Throws Error where the config asks for something the model cannot be (naming the key). Parameters
// get the initial values of the original, drawn from torch's default generator.
std::shared_ptr<SegmentationModel> make_model(const ModelConfig& config);

}  // namespace segmamba::nn
