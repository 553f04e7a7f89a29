#pragma once
// A training run at a moment: enough to go on exactly, or to segment.

#include <torch/torch.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>

#include "segmamba/engine/train_config.h"
#include "segmamba/nn/model.h"

namespace segmamba::engine {

struct TrainingState {
  std::int64_t iteration = 0;            // steps done
  std::int64_t validated_iteration = 0;  // steps done at the last validation
  double best_dice = -1;                 // -1: never validated
  std::int64_t best_iteration = 0;
  // Everything random in a run is keyed by (seed, iteration, sample): the seed and the iteration
  // are the whole state of the random numbers.
  std::int64_t seed = 0;
  std::map<std::string, torch::Tensor> optimizer;
};

struct Checkpoint {
  std::map<std::string, torch::Tensor> model;  // state dict
  std::string config;                          // the effective config as YAML
  TrainingState training;
  std::string version;  // of the program that wrote it
};

// Atomic: `path` holds its old content or all of the new. Python's torch.load(weights_only=True)
// opens it as a dict with the keys model, config, optimizer, iteration, validated_iteration,
// best {dice, iteration}, rng {seed, scheme} and version.
void save_checkpoint(const std::filesystem::path& path, const Checkpoint& checkpoint);
// Throws Error naming the file where it is damaged or lacks a key.
Checkpoint load_checkpoint(const std::filesystem::path& path);

// The config inside; `path` stands in messages.
TrainConfig checkpoint_config(const Checkpoint& checkpoint, const std::filesystem::path& path);
// The model of the config with the checkpoint's weights.
std::shared_ptr<nn::SegmentationModel> checkpoint_model(const Checkpoint& checkpoint,
                                                        const std::filesystem::path& path);

}  // namespace segmamba::engine
