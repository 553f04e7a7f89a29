#pragma once
// A training run at a moment: enough to go on exactly, or to segment.

#include <torch/torch.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "segmamba/core/error.h"
#include "segmamba/engine/train_config.h"
#include "segmamba/engine/training_step.h"
#include "segmamba/nn/model.h"

namespace segmamba::engine {

// One of the best validations of a run.
struct BestValidation {
  double value = 0;  // of the metric
  std::int64_t iteration = 0;
};

struct TrainingState {
  std::int64_t iteration = 0;  // steps done
  // Steps done at the last validation, of whole volumes and of patches.
  std::int64_t validated_iteration = 0, patch_validated_iteration = 0;
  std::string best_metric;           // "dice_mean"; of another one `best` means nothing
  std::vector<BestValidation> best;  // the best first, at most validation.keep_best
  std::int64_t validations_since_best = 0;
  std::int64_t skipped_steps = 0, skipped_in_a_row = 0;
  // Everything random in a run is keyed by (seed, iteration, sample): the seed and the iteration
  // are the whole state of the random numbers.
  std::int64_t seed = 0;
  TrainingStep::State step;
};

struct Checkpoint {
  std::map<std::string, torch::Tensor> model;  // state dict
  std::string config;                          // the effective config as YAML
  TrainingState training;
  std::string version;  // of the program that wrote it

  // The weights to segment with: their average where there is one.
  std::map<std::string, torch::Tensor> weights() const;
};

// Atomic: `path` holds its old content or all of the new. Python's torch.load(weights_only=True)
// opens it as a dict with the keys model, average {weights, updates}, config, optimizer, iteration,
// validated_iteration, patch_validated_iteration, best {metric, values, iterations, since}, skipped
// {steps, in_a_row}, scaler {scale, good_steps}, rng {seed, scheme}, version and hash, which is of
// all the others' content.
void save_checkpoint(const std::filesystem::path& path, const Checkpoint& checkpoint);
// The file is not what save_checkpoint wrote, down to a single bit.
class DamagedCheckpoint : public Error {
 public:
  using Error::Error;
};

// Throws DamagedCheckpoint, ReadError where the file cannot be read, and Error where it is a folder
// or of another version that draws other random numbers; all name the file.
Checkpoint load_checkpoint(const std::filesystem::path& path);

// The config inside; `path` stands in messages.
TrainConfig checkpoint_config(const Checkpoint& checkpoint, const std::filesystem::path& path);
enum class Weights { kAverage, kTrained };  // kAverage: Checkpoint::weights()
// The model of the config with the checkpoint's weights.
std::shared_ptr<nn::SegmentationModel> checkpoint_model(const Checkpoint& checkpoint,
                                                        const std::filesystem::path& path,
                                                        Weights weights = Weights::kAverage);

}  // namespace segmamba::engine
