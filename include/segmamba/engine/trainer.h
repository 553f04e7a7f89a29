#pragma once
// Trains a model as a config says, in a run folder.

#include <atomic>
#include <memory>
#include <string>

#include "segmamba/engine/observer.h"
#include "segmamba/engine/run_folder.h"
#include "segmamba/engine/train_config.h"

namespace segmamba::engine {

class Trainer {
 public:
  // Reads the cases' names and, where `run` holds checkpoints/last.pt, that checkpoint. Throws
  // Error where the config does not fit itself, the data or the checkpoint.
  Trainer(const TrainConfig& config, const RunFolder& run, Observer& observer,
          const std::string& device = "auto");
  ~Trainer();

  // Trains to the end, or until `stop` is raised: then the step under way is finished and
  // checkpoints/last.pt written, and a later Trainer on the same folder goes on to the very weights
  // (bit by bit on the CPU with equal threads) that an undisturbed run would have reached. Throws
  // Error naming the iteration where the loss or the gradients are not finite; last.pt keeps the
  // state of an earlier, good one.
  RunEnd run(const std::atomic<bool>& stop);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace segmamba::engine
