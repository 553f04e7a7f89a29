#pragma once
// Segments whole volumes with a trained model.

#include <torch/torch.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "segmamba/data/prepared_case.h"
#include "segmamba/data/regions.h"
#include "segmamba/engine/train_config.h"
#include "segmamba/io/volume.h"
#include "segmamba/nn/model.h"

namespace segmamba::engine {

// Thrown out of a prediction whose stop flag was raised.
struct Interrupted {};

class Predictor {
 public:
  // Of the config it reads `inference`, data.patch_size (the window, which must be multiples of the
  // model's size_multiple()) and what the model's outputs are: data.classes or data.regions. The
  // model is moved to `device`.
  Predictor(std::shared_ptr<nn::SegmentationModel> model, const TrainConfig& config,
            torch::Device device);

  // Looked at before each window; a raised flag ends the prediction with Interrupted.
  void stop_on(const std::atomic<bool>& flag) { stop_ = &flag; }

  // Computes in a 16-bit type where that is safe (see Autocast); none: in that of the model.
  void compute_in(std::optional<torch::ScalarType> type) { autocast_type_ = type; }

  // image [C, D, H, W], on any device -> logits (or probabilities, by config.average)
  // [K, D, H, W] on the predictor's device: the mean over mirrored and overlapping windows. A
  // volume smaller than the window is padded with `outside` (one value a channel; empty: zeros).
  torch::Tensor predict(const torch::Tensor& image, const std::vector<float>& outside = {}) const;

  // Classes of one window [1, C, D, H, W] as it is, without mirroring; [D, H, W].
  std::vector<std::uint8_t> segment_window(const torch::Tensor& window) const;
  // Classes of a prepared case in its own grid, [D, H, W].
  std::vector<std::uint8_t> segment_prepared(const data::PreparedCase& item) const;
  // Classes in the grid of the case's files, 0 outside its crop. Where preparing has resampled the
  // case, the scores are brought back (trilinear) before classes are made of them.
  io::LabelMap segment(const data::PreparedCase& item) const;

 private:
  torch::Tensor predict_prepared(const data::PreparedCase& item) const;
  torch::Tensor scores_of(const torch::Tensor& windows) const;
  torch::Tensor predict_windows(const torch::Tensor& windows) const;
  std::vector<std::uint8_t> classes_of(const torch::Tensor& scores) const;

  std::shared_ptr<nn::SegmentationModel> model_;
  InferenceConfig config_;
  std::array<std::int64_t, 3> window_;
  std::vector<data::Region> regions_;  // empty: the outputs are classes
  torch::Device device_;
  std::vector<std::vector<std::int64_t>> mirrors_;  // sets of axes of [B, C, D, H, W]
  const std::atomic<bool>* stop_ = nullptr;
  std::optional<torch::ScalarType> autocast_type_;
};

// Scores [..., K, D, H, W] -> classes [..., D, H, W], uint8, on the same device: that of the
// greatest score; with regions what the last region whose score is above `threshold` paints (0 for
// logits, 0.5 for probabilities).
torch::Tensor classes_of(const torch::Tensor& scores, const std::vector<data::Region>& regions,
                         double threshold);

// Throws Error naming `key` where `window` does not suit the model.
void check_window(const nn::SegmentationModel& model, std::array<std::int64_t, 3> window,
                  const std::string& key);

// Labels of a case's crop, [D, H, W] of crop_size, put into the full grid.
io::LabelMap paste_crop(const data::PreparedCase& item, const std::vector<std::uint8_t>& labels);

}  // namespace segmamba::engine
