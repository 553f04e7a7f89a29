#pragma once
// What a run tells while it goes on. Observers may print, write or draw; they change nothing. In a
// run on several ranks only rank 0 has observers.

#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

namespace segmamba::engine {

// Scores of one case, or means over cases, region by region.
struct RegionScores {
  std::vector<std::string> regions;  // "WT", ...
  std::vector<double> dice;
  // mm; where a region is empty in one label map or both, the numbers of validation.h. Empty where
  // it was not asked for.
  std::vector<double> hd95;

  double mean_dice() const;
  double mean_hd95() const;  // nan where it was not asked for
};

struct CaseScores {
  std::string name;
  RegionScores scores;
};

// image | reference | prediction | difference, in three planes.
struct CasePicture {
  std::string role;  // "best", "median" or "worst" of the validation cases by mean Dice
  std::string name;  // of the case
  double dice = 0;   // mean over regions
  std::string png;   // the file's bytes
};

struct RunStarted {
  std::int64_t first_iteration = 0;  // iterations done before: 0, or those of the resumed run
  std::int64_t total_iterations = 0;
  std::int64_t iterations_per_epoch = 0;
  std::int64_t training_cases = 0, validation_cases = 0;
  std::int64_t parameters = 0;
  std::int64_t batch_size = 0;  // patches an update, of all ranks together
  std::int64_t ranks = 1;
  std::string device;
  std::vector<std::string> regions;                         // that validation scores
  std::string best_metric;                                  // "dice_mean", "hd95_wt", ...
  std::vector<std::pair<std::string, std::string>> config;  // config_values()
};

struct StepDone {
  std::int64_t iteration = 0;  // steps done, this one included
  std::int64_t total_iterations = 0;
  double learning_rate = 0, loss = 0, gradient_norm = 0;
  double seconds = 0;             // of this step, waiting for its batch included
  double data_seconds = 0;        // of these, waiting for the batch
  double loss_scale = 1;          // of fp16
  std::string culprit;            // of a skipped step: what was not finite first, in words
  bool skipped = false;           // loss or gradients were not finite: nothing was updated
  std::int64_t device_bytes = 0;  // largest memory taken on the device so far; 0: a CPU
};

// Dice over patches of validation cases, cheap beside whole volumes.
struct PatchValidationDone {
  std::int64_t iteration = 0;
  std::int64_t patches = 0;
  RegionScores scores;
  double seconds = 0;
};

struct ValidationDone {
  std::int64_t iteration = 0;
  RegionScores mean;
  std::vector<CaseScores> cases;
  std::vector<CasePicture> pictures;  // best, median, worst
  double metric = 0;                  // the value of RunStarted::best_metric
  bool is_best = false;
  double seconds = 0;
};

enum class RunEnd { kComplete, kInterrupted };

class Observer {
 public:
  virtual ~Observer() = default;
  virtual void on_start(const RunStarted&) {}
  virtual void on_step(const StepDone&) {}
  virtual void on_patch_validation(const PatchValidationDone&) {}
  virtual void on_validation_case(std::int64_t done, std::int64_t total) {}
  virtual void on_validation(const ValidationDone&) {}
  virtual void on_checkpoint(const std::filesystem::path&, std::int64_t iteration) {}
  virtual void on_notice(const std::string&) {}
  virtual void on_end(RunEnd, std::int64_t iteration) {}
  // Instead of on_end, where an Error ends the run.
  virtual void on_failure(const std::string& message, std::int64_t iteration) {}
};

// Tells several observers, in order. They must outlive it.
class Observers final : public Observer {
 public:
  void add(Observer& observer) { observers_.push_back(&observer); }

  void on_start(const RunStarted& event) override;
  void on_step(const StepDone& event) override;
  void on_patch_validation(const PatchValidationDone& event) override;
  void on_validation_case(std::int64_t done, std::int64_t total) override;
  void on_validation(const ValidationDone& event) override;
  void on_checkpoint(const std::filesystem::path& path, std::int64_t iteration) override;
  void on_notice(const std::string& message) override;
  void on_end(RunEnd end, std::int64_t iteration) override;
  // An observer that fails here, too, does not keep it from the others.
  void on_failure(const std::string& message, std::int64_t iteration) override;

 private:
  std::vector<Observer*> observers_;
};

}  // namespace segmamba::engine
