#pragma once
// report.html of a run: one page that needs nothing but itself. Torch-free.

#include <string>

#include "segmamba/engine/observer.h"
#include "segmamba/engine/run_folder.h"

namespace segmamba::engine {

// Writes the page at each validation and at the end, out of the run folder (config.yaml,
// environment.json, metrics.csv) and the last validation: where the run stands, curves, the best,
// median and worst case, scores of all cases, config and environment. Keeps no history: a resumed
// run's page shows all of the run. Should come behind CsvObserver, so that the file has the
// newest row. A page that cannot be read or written is warned of and does not end the run.
class ReportObserver final : public Observer {
 public:
  explicit ReportObserver(RunFolder run);

  // A resumed run's page shows the last validation of the earlier one until there is another.
  void on_start(const RunStarted& event) override;
  void on_step(const StepDone& event) override;
  void on_validation(const ValidationDone& event) override;
  void on_end(RunEnd end, std::int64_t iteration) override;
  void on_failure(const std::string& message, std::int64_t iteration) override;

 private:
  void write(const std::string& state);
  void write_page(const std::string& state) const;

  RunFolder run_;
  RunStarted started_;
  std::int64_t device_bytes_ = 0;
  std::string validation_;  // of the page
};

}  // namespace segmamba::engine
