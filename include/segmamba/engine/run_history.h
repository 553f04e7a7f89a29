#pragma once
// What a run folder says of the run so far: config.yaml and metrics.csv, whole or still growing.
// Torch-free.

#include <cstdint>
#include <filesystem>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "segmamba/engine/run_folder.h"

namespace segmamba::engine {

// One column of metrics.csv, without its empty cells.
struct Series {
  std::string name;
  std::vector<double> iterations = {};  // rising
  std::vector<double> values = {};      // one an iteration; may be nan or infinite

  std::size_t size() const { return values.size(); }
  bool empty() const { return values.empty(); }
};

struct RunHistory {
  std::vector<Series> series;  // in the order of the file, without "iteration"

  // The column of that name, or an empty one.
  const Series& operator[](const std::string& name) const;
  std::int64_t iterations() const;  // done
};

// Reads metrics.csv by the names of its columns; a last line that is not whole yet is passed over,
// a file that is not there has no rows. 250,000 iterations take about 0.1 s, so that whoever needs
// the history reads it anew instead of keeping one of its own. Throws Error naming file and line.
RunHistory read_history(const std::filesystem::path& metrics);

// Config keys and values as text: of whatever version wrote them.
using ConfigValues = std::vector<std::pair<std::string, std::string>>;

// 0 where there is no such key, or its value is no whole number.
std::int64_t integer_at(const ConfigValues& config, const std::string& key);

struct RunSummary {
  static constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  static constexpr std::int64_t kLossSteps = 100;

  std::int64_t iterations = 0;        // done
  std::int64_t total_iterations = 0;  // 0: the config does not say
  std::string best_metric;            // "dice_mean", "hd95_wt", ...: what the config asks for
  double best = kNan;                 // nan: no validation yet
  std::int64_t best_iteration = 0;
  double loss = kNan;       // smoothed
  double step_seconds = 0;  // of all steps together; validations are not counted
  double data_seconds = 0;  // of these, waiting for a batch
  double iterations_per_second = kNan;
  std::int64_t skipped_steps = 0;
};
RunSummary summarise(const RunHistory& history, const ConfigValues& config);

// config.yaml of a run. Throws Error saying so where `run` is no run folder.
ConfigValues read_config_values(const RunFolder& run);

}  // namespace segmamba::engine
