#pragma once

#include <torch/torch.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "segmamba/data/regions.h"
#include "segmamba/engine/precision.h"
#include "segmamba/engine/predictor.h"
#include "segmamba/engine/sliding_window.h"
#include "window_scores.h"

namespace segmamba::engine {

// Whose the models are.
enum class Owner { kCaller, kPredictor };

class Predictor::Impl {
 public:
  // `architectures`: what the models are, for the memory that they take. Models of a caller may
  // train between predictions; the predictor's own are prepared for inference.
  Impl(WindowScores::Models models, const std::vector<nn::ModelConfig>& architectures,
       TrainConfig config, const PredictorOptions& options, Owner owner);

  Prediction predict(const data::PreparedCase& item, const PredictionRequest& request) const;
  std::vector<std::uint8_t> segment_prepared(const data::PreparedCase& item,
                                             const std::function<bool()>& cancelled) const;
  std::vector<std::uint8_t> segment_window(const torch::Tensor& window) const;

  const TrainConfig& config() const { return config_; }
  const torch::Device& device() const { return device_; }
  Precision precision() const { return precision_; }
  std::int64_t model_count() const { return std::ssize(models_); }
  const MemoryLimits& limits() const { return limits_; }

 private:
  static bool prepares(Owner owner) { return owner == Owner::kPredictor; }
  void leave_training() const;
  // Windows a pass and the place of sums, within the limits; asked before a prediction takes any
  // memory.
  WindowMemory memory_for(const data::PreparedCase& item, const ScoreKind& kind,
                          const PredictionRequest& request) const;
  // Gives finished scores in the prepared grid to `sink`, a few slices at a time.
  void stream(const data::PreparedCase& item, const ScoreKind& kind,
              const PredictionRequest& request, const WindowMemory& memory, const SliceSink& sink,
              std::vector<std::string>& notes) const;

  WindowScores::Models models_;
  TrainConfig config_;
  std::array<std::int64_t, 3> window_;
  std::vector<data::Region> regions_;  // empty: the outputs are classes
  std::vector<std::string> outputs_;   // names
  torch::Device device_;
  Precision precision_;
  WindowScores scores_;
  MemoryLimits limits_;
  std::int64_t pass_bytes_ = 0;  // of one window; known where there are limits
  // What was left when memory last ran out.
  mutable std::atomic<std::int64_t> most_windows_;
  mutable std::atomic<bool> sums_fit_ = true;  // on the device
};

}  // namespace segmamba::engine
