#pragma once
// Trains a model as a config says, in a run folder.

#include <atomic>
#include <memory>
#include <string>

#include "segmamba/engine/distributed.h"
#include "segmamba/engine/observer.h"
#include "segmamba/engine/run_folder.h"
#include "segmamba/engine/train_config.h"

namespace segmamba::engine {

// What can be found wrong with a new run before its folder is touched. Throws Error where the
// config does not fit itself, the device, the number of ranks, the weights to start from, the data,
// its split or its cache.
void check_start(const TrainConfig& config, const torch::Device& device, std::int64_t ranks);

struct TrainerOptions {
  torch::Device device = torch::kCPU;
  std::int64_t local_ranks = 1;  // on this machine, which share data.memory_gb
  // Resume with another config where only the weights and the optimizer's state still fit; without
  // it a change of a key that decides the weights is an Error that lists all of them.
  bool allow_config_change = false;
};

class Trainer {
 public:
  // Reads the cases' names and, where `run` holds checkpoints, the newest that is whole: last.pt,
  // else previous.pt, else the best ones; a damaged file is kept as NAME.damaged. Of several ranks
  // the first writes into the folder, and only its observer is told (notices of the others go to
  // their log). Throws Error where the config does not fit itself, the data or the checkpoint, or
  // where every checkpoint is damaged.
  Trainer(const TrainConfig& config, const RunFolder& run, Observer& observer, Ranks& ranks,
          const TrainerOptions& options = {});
  ~Trainer();

  // Trains to the end, or until `stop` is raised on any rank: then the step under way is finished
  // and checkpoints/last.pt written, and a later Trainer on the same folder goes on to the very
  // weights (bit by bit on the CPU with equal threads) that an undisturbed run would have reached.
  // A step whose loss or gradients are not finite is skipped and told. Throws Error where more than
  // training.max_skipped_steps come in a row (the checkpoints are of before them), and with advice
  // where memory runs out.
  RunEnd run(const std::atomic<bool>& stop);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace segmamba::engine
