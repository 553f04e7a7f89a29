#pragma once
// Segmentation networks by name.

#include <torch/torch.h>

#include <array>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "segmamba/nn/model_config.h"
#include "segmamba/nn/recompute.h"

namespace segmamba::nn {

// Which sizes [D, H, W] of an input a network takes.
struct InputSizes {
  // Each size is a multiple of this, where the network halves the resolution again and again.
  std::array<std::int64_t, 3> multiple = {1, 1, 1};
  // There are features at 1 / multiple of the resolution that an instance norm takes: of a single
  // voxel it would leave nothing.
  bool norms_coarsest = false;
  // The only size there is: of a network with a table of positions, or one that scans along
  // channels.
  std::optional<std::array<std::int64_t, 3>> exact = {};
  const char* exact_key = "";  // of the section `model`

  // "each size must be a multiple of 16"; nothing where `sizes` fit.
  std::optional<std::string> misfit(const std::array<std::int64_t, 3>& sizes) const;
};

// Every network of the framework.
class SegmentationModel : public torch::nn::Module {
 public:
  // `in_channels` 0: any number.
  explicit SegmentationModel(InputSizes input_sizes = {}, std::int64_t in_channels = 0)
      : input_sizes_(input_sizes), in_channels_(in_channels) {}

  // Input [B, C, D, H, W]; logits [B, classes, D, H, W] of its type. Throws Error where channels or
  // sizes do not fit.
  torch::Tensor forward(const torch::Tensor& input);
  // What deep supervision trains: the logits of forward(), then those at lower and lower
  // resolutions, where the model was made with such outputs.
  std::vector<torch::Tensor> forward_deep(const torch::Tensor& input);
  // How many tensors forward_deep() returns.
  virtual std::size_t deep_output_count() const { return 1; }
  // Whether the original trains the coarsest of these as well (nnU-Net does not).
  virtual bool trains_coarsest_output() const { return false; }
  const InputSizes& input_sizes() const { return input_sizes_; }

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
  using Tensors = std::vector<torch::Tensor>;

  // The network itself: the logits and, where `deep`, after them those of the coarser outputs.
  // `input` fits, lies channels last, and is of inference_type() where that is set.
  virtual Tensors compute(torch::Tensor input, bool deep) = 0;

  // A model runs each of its parts through this.
  torch::Tensor run_part(const std::string& name, const TensorFunction& function,
                         Tensors inputs) const;

 private:
  Tensors outputs(const torch::Tensor& input, bool deep);

  InputSizes input_sizes_;
  std::int64_t in_channels_;
  std::set<std::string> recomputed_;
  std::optional<torch::ScalarType> inference_type_;
};

// Tensors for run_part(), moved: an initialiser list would hold on to them.
template <class... Tensor>
std::vector<torch::Tensor> moved(Tensor&&... tensors) {
  std::vector<torch::Tensor> list;
  (list.push_back(std::move(tensors)), ...);
  return list;
}

// Throws Error where the config asks for something the model cannot be (naming the key), and,
// before any memory is taken, for more numbers than this machine has memory for. Parameters get the
// initial values of the original, drawn from torch's default generator.
std::shared_ptr<SegmentationModel> make_model(const ModelConfig& config);
// With these weights: as load_state_dict() (weights.h), but what does not fit is refused before the
// model takes any memory. So a file cannot ask for more than the numbers that it holds.
std::shared_ptr<SegmentationModel> make_model(const ModelConfig& config,
                                              const std::map<std::string, torch::Tensor>& weights);
// Of tensors of LibTorch's meta device, which have shapes and types, but no numbers and no memory.
// Draws no random numbers.
std::shared_ptr<SegmentationModel> make_meta_model(const ModelConfig& config);

// Those of the model that make_model() would make.
InputSizes input_sizes(const ModelConfig& config);

}  // namespace segmamba::nn
