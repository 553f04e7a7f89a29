#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <string>

#include "segmamba/core/append_file.h"
#include "segmamba/core/json.h"
#include "segmamba/engine/observer.h"

namespace segmamba::engine {

// events.jsonl: what happened when, for programs. A JSON object a line, in the order of happening:
//   {"time": "2026-11-26T01:20:52.123Z", "event": "validation", "iteration": 500, ...}
// Events: start, skipped_step, patch_validation, validation, checkpoint, notice, end, failure.
// Other steps are in metrics.csv. A resumed run goes on in the file, so that a validation it does
// again stands there twice, with a start between. Distances are in mm; "nan" and "inf" are strings.
class EventsObserver final : public Observer {
 public:
  // Appends to the file. Throws Error.
  explicit EventsObserver(const std::filesystem::path& path);
  void on_start(const RunStarted& event) override;
  void on_step(const StepDone& event) override;
  void on_patch_validation(const PatchValidationDone& event) override;
  void on_validation(const ValidationDone& event) override;
  void on_checkpoint(const std::filesystem::path& path, std::int64_t iteration) override;
  void on_notice(const std::string& message) override;
  void on_end(RunEnd end, std::int64_t iteration) override;
  void on_failure(const std::string& message, std::int64_t iteration) override;

 private:
  void write(const std::string& name, std::int64_t iteration, const Json& fields);

  AppendFile file_;
  std::int64_t iteration_ = 0;  // steps done
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace segmamba::engine
