#pragma once
// Observers for people and for tables.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "segmamba/core/append_file.h"
#include "segmamba/core/progress.h"
#include "segmamba/engine/observer.h"

namespace segmamba::engine {

// The mean of the first values, then one that forgets: it follows a run that speeds up or slows
// down, and the slow first steps of a GPU do not stay in it.
class RunningMean {
 public:
  // `weight`: of each new value once there are more than 1 / weight.
  explicit RunningMean(double weight) : weight_(weight) {}
  void add(double value);
  double value() const { return value_; }
  bool empty() const { return count_ == 0; }

 private:
  double weight_, value_ = 0;
  std::int64_t count_ = 0;
};

// How long a run still takes, its validations included. Only what this process has timed counts, so
// that a resumed run is not taken for a fast one.
class TimeLeft {
 public:
  void on_start(const RunStarted& event);
  void on_step(const StepDone& event);
  void on_patch_validation(const PatchValidationDone& event) { patch_seconds_ = event.seconds; }
  void on_validation(const ValidationDone& event) { validation_seconds_ = event.seconds; }

  double seconds() const;  // nan before the first step of this process
  double seconds_per_step() const { return step_seconds_.value(); }
  // False before the first validation of this process, as one may take longer than a day of steps.
  bool knows_validation() const { return validation_every_ == 0 || validation_seconds_ > 0; }

 private:
  // Multiples of `every` among the steps that are left, the current one included.
  std::int64_t marks_left(std::int64_t every) const;
  std::int64_t validations_left() const;
  std::int64_t patch_validations_left() const;

  std::int64_t iteration_ = 0, total_ = 0;
  std::int64_t validation_every_ = 0, patches_every_ = 0;  // 0: never
  RunningMean step_seconds_{0.02};
  double validation_seconds_ = 0, patch_seconds_ = 0;
};

// On a terminal a bar that shows where the run stands; elsewhere such a line every `line_seconds`.
// Beside it a line for each event worth one. Single steps are in metrics.csv, not in the log.
class ConsoleObserver final : public Observer {
 public:
  explicit ConsoleObserver(double line_seconds = 30) : line_seconds_(line_seconds) {}
  void on_start(const RunStarted& event) override;
  void on_step(const StepDone& event) override;
  void on_patch_validation(const PatchValidationDone& event) override;
  void on_validation_case(std::int64_t done, std::int64_t total) override;
  void on_validation(const ValidationDone& event) override;
  void on_checkpoint(const std::filesystem::path& path, std::int64_t iteration) override;
  void on_notice(const std::string& message) override;
  void on_end(RunEnd end, std::int64_t iteration) override;
  void on_failure(const std::string& message, std::int64_t iteration) override;

 private:
  std::string note() const;
  std::string note_on_time() const;  // what the time that is left leaves out

  double line_seconds_;
  std::unique_ptr<Progress> progress_;
  TimeLeft time_left_;
  RunningMean loss_{0.05};
  StepDone last_step_;
  std::string last_dice_;  // "Dice 0.812"
};

// metrics.csv: a row a step, a row a validation and a row a validation on patches, each with the
// others' columns empty:
//   iteration,learning_rate,loss,gradient_norm,seconds,data_seconds,loss_scale,skipped,
//   patch_dice_wt,...,patch_dice_mean,dice_wt,...,dice_mean,hd95_wt,...,hd95_mean
// Rates are per step, seconds are of the step, distances in mm, `skipped` is 0 or 1; what is nan is
// empty. A row is in the file when its event returns.
class CsvObserver final : public Observer {
 public:
  explicit CsvObserver(std::filesystem::path path);
  // A resumed run drops the rows of steps that are done again. Throws Error where the file has
  // other columns, as that of another version or with other regions.
  void on_start(const RunStarted& event) override;
  void on_step(const StepDone& event) override;
  void on_patch_validation(const PatchValidationDone& event) override;
  void on_validation(const ValidationDone& event) override;

 private:
  std::filesystem::path path_;
  std::size_t regions_ = 0;
  std::optional<AppendFile> file_;
  // Of the last rows: a resumed run may validate once more what it had before it was killed.
  std::int64_t patches_validated_ = -1, validated_ = -1;
};

}  // namespace segmamba::engine
