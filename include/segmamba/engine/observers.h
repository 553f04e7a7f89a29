#pragma once
// Observers for people and for tables.

#include <filesystem>
#include <fstream>
#include <memory>

#include "segmamba/core/progress.h"
#include "segmamba/engine/observer.h"

namespace segmamba::engine {

// A progress bar with the time that is left, and a log line for each event worth one.
class ConsoleObserver final : public Observer {
 public:
  void on_start(const RunStarted& event) override;
  void on_step(const StepDone& event) override;
  void on_validation_case(std::int64_t done, std::int64_t total) override;
  void on_validation(const ValidationDone& event) override;
  void on_checkpoint(const std::filesystem::path& path, std::int64_t iteration) override;
  void on_notice(const std::string& message) override;
  void on_end(RunEnd end, std::int64_t iteration) override;

 private:
  std::unique_ptr<Progress> progress_;
  double mean_loss_ = 0;  // running
  double last_dice_ = -1;
};

// metrics.csv: a row a step and a row a validation, each with the other's columns empty:
//   iteration,learning_rate,loss,gradient_norm,seconds,dice_wt,dice_tc,dice_et,dice_mean
class CsvObserver final : public Observer {
 public:
  explicit CsvObserver(std::filesystem::path path);
  // A resumed run drops the rows of steps that are done again.
  void on_start(const RunStarted& event) override;
  void on_step(const StepDone& event) override;
  void on_validation(const ValidationDone& event) override;

 private:
  void write(const std::string& row);

  std::filesystem::path path_;
  std::size_t regions_ = 0;
  std::ofstream file_;
};

}  // namespace segmamba::engine
