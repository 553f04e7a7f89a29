#pragma once
// Segments whole volumes with a trained model.

#include <torch/torch.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "segmamba/data/prepared_case.h"
#include "segmamba/engine/train_config.h"
#include "segmamba/io/volume.h"
#include "segmamba/nn/model.h"

namespace segmamba::engine {

// Thrown out of a prediction whose stop flag was raised.
struct Interrupted {};

class Predictor {
 public:
  // `window` [D, H, W] must be multiples of the model's size_multiple(). The model is moved to
  // `device`.
  Predictor(std::shared_ptr<nn::SegmentationModel> model, const InferenceConfig& config,
            std::array<std::int64_t, 3> window, torch::Device device);

  // Looked at before each window; a raised flag ends the prediction with Interrupted.
  void stop_on(const std::atomic<bool>& flag) { stop_ = &flag; }

  // image [C, D, H, W], on any device -> logits (or probabilities, by config.average)
  // [K, D, H, W] on the predictor's device: the mean over mirrored and overlapping windows. A
  // volume smaller than the window is padded with `outside` (one value a channel; empty: zeros).
  torch::Tensor predict(const torch::Tensor& image, const std::vector<float>& outside = {}) const;

  // Classes of a prepared case in its own grid, [D, H, W].
  std::vector<std::uint8_t> segment_prepared(const data::PreparedCase& item) const;
  // Classes in the grid of the case's files, 0 outside its crop. Where preparing has resampled the
  // case, the scores are brought back (trilinear) before the greatest is taken.
  io::LabelMap segment(const data::PreparedCase& item) const;

 private:
  torch::Tensor predict_prepared(const data::PreparedCase& item) const;
  torch::Tensor predict_windows(const torch::Tensor& windows) const;

  std::shared_ptr<nn::SegmentationModel> model_;
  InferenceConfig config_;
  std::array<std::int64_t, 3> window_;
  torch::Device device_;
  std::vector<std::vector<std::int64_t>> mirrors_;  // sets of axes of [B, C, D, H, W]
  const std::atomic<bool>* stop_ = nullptr;
};

// Throws Error naming `key` where `window` does not suit the model.
void check_window(const nn::SegmentationModel& model, std::array<std::int64_t, 3> window,
                  const std::string& key);

// Labels of a case's crop, [D, H, W] of crop_size, put into the full grid.
io::LabelMap paste_crop(const data::PreparedCase& item, const std::vector<std::uint8_t>& labels);

}  // namespace segmamba::engine
