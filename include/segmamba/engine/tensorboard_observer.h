#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "segmamba/core/error.h"
#include "segmamba/core/tensorboard.h"
#include "segmamba/engine/observer.h"

namespace segmamba::engine {

// The run for TensorBoard:
//   train/loss, learning_rate, gradient_norm, iterations_per_second, device_gib (largest so far)
//   patch_dice/wt, ..., mean; dice/wt, ..., mean; hd95/wt, ..., mean (mm)
//   best/METRIC, a point where a validation was the best so far
//   validation/best, median, worst: pictures; config: text
// and the page HPARAMS, with every key of the config and best/METRIC.
// metrics.csv holds the same numbers: where the files cannot be written, the run goes on without
// them, and a warning says so.
class TensorBoardObserver final : public Observer {
 public:
  // A file for each start of the run, in `folder`.
  explicit TensorBoardObserver(std::filesystem::path folder);
  void on_start(const RunStarted& event) override;
  void on_step(const StepDone& event) override;
  void on_patch_validation(const PatchValidationDone& event) override;
  void on_validation(const ValidationDone& event) override;
  void on_end(RunEnd end, std::int64_t iteration) override;

 private:
  // Calls work(writer_) as long as there is one.
  template <class Work>
  void attempt(const Work& work);
  void give_up(const WriteError& error);

  std::filesystem::path folder_;
  std::optional<TensorBoardWriter> writer_;
  std::string best_tag_;
};

}  // namespace segmamba::engine
