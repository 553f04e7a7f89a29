#pragma once
// What the members of an ensemble (models times mirrorings) say of the same windows.

#include <torch/torch.h>

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "segmamba/engine/device_graph.h"
#include "segmamba/nn/model.h"

namespace segmamba::engine {

// What the outputs of a model are, and what is kept of them.
struct ScoreKind {
  bool is_regions = false;      // outputs may overlap; else they are classes
  bool is_probability = false;  // the mean is of probabilities; else of logits
  // Beside the scores: their mean probabilities where the scores are logits, then one channel that
  // is the members' mean entropy first and their disagreement at the end.
  bool with_uncertainty = false;

  double threshold() const { return is_probability ? 0.5 : 0; }  // above it a region is there
  std::int64_t channels(std::int64_t outputs) const;             // with those beside
  // The mean probabilities in scores [..., channels, D, H, W]; with_uncertainty or is_probability.
  torch::Tensor probabilities(const torch::Tensor& scores) const;
  // Of outputs, along the same dimension.
  torch::Tensor to_probabilities(const torch::Tensor& logits) const;
  // Probabilities [..., K, D, H, W] -> [..., 1, D, H, W], nats: of a class, -sum p ln p; of regions
  // the mean of their binary entropies.
  torch::Tensor entropy(const torch::Tensor& probabilities) const;
  // Turns the last channel of blended scores from the mean entropy into the disagreement.
  void finish_uncertainty(const torch::Tensor& scores) const;
};

// Sets of dimensions of [B, C, D, H, W] to flip: every subset of `axes` (0, 1, 2 for D, H, W), the
// empty one first.
std::vector<std::vector<std::int64_t>> mirrorings(const std::vector<std::int64_t>& axes);

// Forward passes of fixed models on a GPU, each shape of input recorded when it comes for the
// second time, unless memory runs out. For calls from any threads, which come one after another.
class RecordedPasses {
 public:
  // What `pass` of a model makes of the input, which it runs at first; the caller's to write into.
  torch::Tensor run(std::size_t model, const torch::Tensor& input,
                    const std::function<torch::Tensor(const torch::Tensor&)>& pass);

 private:
  struct Recording {
    DeviceGraph graph;
    torch::Tensor input, output;
  };
  std::mutex mutex_;
  bool records_ = true;
  std::map<std::pair<std::size_t, std::vector<std::int64_t>>, Recording> recordings_;
};

class WindowScores {
 public:
  using Models = std::vector<std::shared_ptr<nn::SegmentationModel>>;

  // Passes compute in `type` where that is safe (see Autocast); none: in that of the models.
  // Weights that `change` between calls keep passes on a GPU from being recorded.
  WindowScores(Models models, const std::vector<std::int64_t>& mirror_axes,
               std::optional<torch::ScalarType> type, const torch::Device& device,
               bool weights_change);

  // Forward passes that operator() takes.
  std::int64_t passes() const;
  // windows [B, C, D, H, W] on any device -> [B, channels, D, H, W], float32, on that of the
  // models: the means over the members. `before_pass` is called before each forward pass.
  torch::Tensor operator()(const torch::Tensor& windows, const ScoreKind& kind,
                           const std::function<void()>& before_pass) const;
  // One model on windows as they are: logits, float32.
  torch::Tensor logits(std::size_t model, const torch::Tensor& windows) const;

 private:
  Models models_;
  std::vector<std::vector<std::int64_t>> mirrorings_;
  std::optional<torch::ScalarType> type_;
  torch::Device device_;
  std::unique_ptr<RecordedPasses> recorded_;  // null where passes are not
};

}  // namespace segmamba::engine
