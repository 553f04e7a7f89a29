#pragma once
// Segmentation networks by name.

#include <torch/torch.h>

#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "segmamba/nn/model_config.h"
#include "segmamba/nn/recompute.h"

namespace segmamba::nn {

// Every network of the framework. Input [B, C, D, H, W] float; logits [B, classes, D, H, W].
class SegmentationModel : public torch::nn::Module {
 public:
  using torch::nn::Module::Module;
  virtual torch::Tensor forward(const torch::Tensor& input) = 0;
  // What deep supervision trains: the logits of forward(), then those at lower and lower
  // resolutions, where the model was made with such outputs.
  virtual std::vector<torch::Tensor> forward_deep(const torch::Tensor& input) {
    return {forward(input)};
  }
  virtual std::size_t deep_output_count() const { return 1; }  // what forward_deep() returns
  // Each spatial size of an input must be a multiple of this.
  virtual std::int64_t size_multiple() const = 0;

  // Names of the parts that can be computed again in the backward pass, in the order of the forward
  // pass.
  virtual std::vector<std::string> parts() const { return {}; }
  // Which parts are (see recompute()); {"all"}: every one. Throws Error on a name that parts() does
  // not list.
  void set_recomputed(const std::vector<std::string>& names);

  // Of a model that has been prepared for inference (inference.h): what its data run through it in.
  std::optional<torch::ScalarType> inference_type() const { return inference_type_; }
  void set_inference_type(torch::ScalarType type) { inference_type_ = type; }

 protected:
  // A model runs each of its parts through this.
  torch::Tensor run_part(const std::string& name, const TensorFunction& function,
                         std::vector<torch::Tensor> inputs) const;

 private:
  std::set<std::string> recomputed_;
  std::optional<torch::ScalarType> inference_type_;
};

// Throws Error where the config asks for something the model cannot be (naming the key). Parameters
// get the initial values of the original, drawn from torch's default generator.
std::shared_ptr<SegmentationModel> make_model(const ModelConfig& config);

}  // namespace segmamba::nn
