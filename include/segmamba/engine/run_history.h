#pragma once
// What a run folder says of the run so far: config.yaml and metrics.csv, whole or still growing.
// Torch-free.

#include <cstdint>
#include <deque>
#include <filesystem>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "segmamba/engine/run_folder.h"

namespace segmamba::engine {

// Numbers over the iterations of a run.
struct Series {
  std::vector<double> iterations = {};  // rising
  std::vector<double> values = {};      // one an iteration

  std::size_t size() const { return values.size(); }
  bool empty() const { return values.empty(); }
};

// One column of metrics.csv, without its empty cells. Takes no more memory the longer the run: once
// there are more than kMostPoints values, a point stands for 2 of them, then for 4, and so on.
class Column {
 public:
  static constexpr std::size_t kMostPoints = 4096;
  static constexpr std::size_t kRecent = 500;

  explicit Column(std::string name) : name_(std::move(name)) {}

  // May be nan or infinite; iterations rise.
  void add(double iteration, double value);

  const std::string& name() const { return name_; }
  std::int64_t size() const { return size_; }  // values that were added
  bool empty() const { return size_ == 0; }
  double sum() const { return sum_; }
  double last_iteration() const { return last_iteration_; }  // 0: none
  // The newest values, kRecent of them at most.
  const std::deque<double>& recent() const { return recent_; }

  // Of the finite values: the mean of each point, at the mean of its iterations.
  Series means() const;
  // Of the finite values: the least and the greatest of each point, in their order; the first of
  // equal ones.
  Series extremes() const;

 private:
  struct Value {
    double iteration, value;
  };
  struct Point {
    std::int64_t count;
    double iterations, values;  // sums
    Value least, greatest;

    void merge(const Point& next);
  };

  void halve();

  std::string name_;
  std::int64_t size_ = 0;
  double sum_ = 0, last_iteration_ = 0;
  std::deque<double> recent_;
  std::vector<Point> points_;
  std::int64_t point_size_ = 1;  // values of a point; the last one may still have fewer
};

struct RunHistory {
  std::vector<Column> columns;  // in the order of the file, without "iteration"

  // The column of that name, or an empty one.
  const Column& operator[](const std::string& name) const;
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
