#pragma once
// A training run as its YAML file describes it: one struct a section. Torch-free.

#include <array>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "segmamba/core/config.h"
#include "segmamba/data/augment.h"
#include "segmamba/data/data_config.h"
#include "segmamba/data/preprocess.h"
#include "segmamba/data/sampler.h"
#include "segmamba/nn/model_config.h"
#include "segmamba/post/postprocess_config.h"

namespace segmamba::engine {

// Section `loss`.
struct LossConfig {
  std::string name = "cross_entropy";
  double cross_entropy_weight = 1, focal_weight = 1, dice_weight = 1;
  double focal_gamma = 2;
  std::vector<double> class_weights;
  bool include_background = false;
  bool batch_dice = true;
  double smooth = 1e-5;
  std::vector<double> deep_supervision_weights;

  void visit(ConfigVisitor& visitor);
};

// Section `optimizer`.
struct OptimizerConfig {
  std::string name = "sgd";
  double learning_rate = 1e-2;
  double weight_decay = 3e-5;
  bool decay_norms_and_biases = true;
  double momentum = 0.99;
  bool nesterov = true;
  std::vector<double> betas = {0.9, 0.999};
  double eps = 1e-8;

  void visit(ConfigVisitor& visitor);
};

// Section `schedule`.
struct ScheduleConfig {
  std::string name = "polynomial";
  double power = 0.9;
  double final_learning_rate = 0;
  std::int64_t warmup_iterations = 0;

  void visit(ConfigVisitor& visitor);
};

// Section `training`.
struct TrainingConfig {
  std::int64_t epochs = 1000;
  std::int64_t iterations_per_epoch = 250;
  std::int64_t iterations = 0;
  std::int64_t batch_size = 2;
  std::int64_t micro_batch_size = 0;
  std::string precision = "fp32";
  std::vector<std::string> recompute;
  bool graph = false;
  bool tune_convolutions = true;
  double gradient_clip_norm = 12;
  double ema_decay = 0;
  std::int64_t max_skipped_steps = 20;
  std::int64_t early_stop = 0;
  std::int64_t seed = 0;
  std::int64_t workers = 2;
  std::string augment_on = "cpu";
  std::int64_t threads = 0;
  std::int64_t checkpoint_every = 250;

  void visit(ConfigVisitor& visitor);
  std::int64_t total_iterations() const {
    return iterations > 0 ? iterations : epochs * iterations_per_epoch;
  }
};

// Section `validation`.
struct ValidationConfig {
  std::int64_t every = 2500;
  std::int64_t max_cases = 0;
  double overlap = 0.25;
  bool hd95 = true;
  std::string best_metric = "dice_mean";
  std::int64_t keep_best = 1;
  std::int64_t patches_every = 0;
  std::int64_t patches = 32;

  void visit(ConfigVisitor& visitor);
};

// Section `inference`.
struct InferenceConfig {
  double overlap = 0.5;
  std::string mode = "gaussian";
  double sigma_scale = 0.125;
  std::int64_t sw_batch_size = 1;
  std::vector<std::int64_t> mirror_axes = {0, 1, 2};
  std::string average = "logits";

  void visit(ConfigVisitor& visitor);
};

// The whole file.
struct TrainConfig {
  nn::ModelConfig model;
  data::DataConfig data;
  data::PreprocessConfig preprocess;
  data::SamplingConfig sampling;
  data::AugmentConfig augment;
  LossConfig loss;
  OptimizerConfig optimizer;
  ScheduleConfig schedule;
  TrainingConfig training;
  ValidationConfig validation;
  InferenceConfig inference;
  post::PostprocessConfig postprocess;

  void visit(ConfigVisitor& visitor);
  std::array<std::int64_t, 3> patch_size() const {
    return {data.patch_size[0], data.patch_size[1], data.patch_size[2]};
  }
};

// Fills in what follows from other keys: the size of inputs that a network is made for, which is
// that of the patches. To be called once all keys are known.
void complete(TrainConfig& config);

// Throws Error naming the keys where two of them contradict each other.
void check(const TrainConfig& config);

// Every key as ("section.key", value as text), in the order of visit().
std::vector<std::pair<std::string, std::string>> config_values(const TrainConfig& config);

// The keys that decide the weights a run ends with and differ between the two, as
// "training.batch_size is 4, was 2". Keys that only decide where data lies, how often it is
// validated or saved, or how inference is done are left out: a run may be resumed with others.
std::vector<std::string> differences_that_matter(const TrainConfig& now, const TrainConfig& before);

}  // namespace segmamba::engine
