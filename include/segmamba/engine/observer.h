#pragma once
// What a run tells while it goes on. Observers may print, write or draw; they change nothing.

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace segmamba::engine {

// Mean Dice over cases, region by region.
struct RegionDice {
  std::vector<std::string> regions;  // "WT", ...
  std::vector<double> dice;
  double mean() const;
};

struct RunStarted {
  std::int64_t first_iteration = 0;  // iterations done before: 0, or those of the resumed run
  std::int64_t total_iterations = 0;
  std::int64_t training_cases = 0, validation_cases = 0;
  std::int64_t parameters = 0;
  std::string device;
  std::vector<std::string> regions;  // that validation scores
};

struct StepDone {
  std::int64_t iteration = 0;  // steps done, this one included
  std::int64_t total_iterations = 0;
  double learning_rate = 0, loss = 0, gradient_norm = 0;
  double seconds = 0;  // of this step, waiting for its batch included
};

struct ValidationDone {
  std::int64_t iteration = 0;
  std::int64_t cases = 0;
  RegionDice dice;
  bool is_best = false;
  double seconds = 0;
};

enum class RunEnd { kComplete, kInterrupted };

class Observer {
 public:
  virtual ~Observer() = default;
  virtual void on_start(const RunStarted&) {}
  virtual void on_step(const StepDone&) {}
  virtual void on_validation_case(std::int64_t done, std::int64_t total) {}
  virtual void on_validation(const ValidationDone&) {}
  virtual void on_checkpoint(const std::filesystem::path&, std::int64_t iteration) {}
  virtual void on_notice(const std::string&) {}
  virtual void on_end(RunEnd, std::int64_t iteration) {}
};

// Tells several observers, in order. They must outlive it.
class Observers final : public Observer {
 public:
  void add(Observer& observer) { observers_.push_back(&observer); }

  void on_start(const RunStarted& event) override;
  void on_step(const StepDone& event) override;
  void on_validation_case(std::int64_t done, std::int64_t total) override;
  void on_validation(const ValidationDone& event) override;
  void on_checkpoint(const std::filesystem::path& path, std::int64_t iteration) override;
  void on_notice(const std::string& message) override;
  void on_end(RunEnd end, std::int64_t iteration) override;

 private:
  std::vector<Observer*> observers_;
};

}  // namespace segmamba::engine
