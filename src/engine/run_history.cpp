#include "segmamba/engine/run_history.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>
#include <string_view>
#include <utility>

#include "segmamba/core/csv.h"
#include "segmamba/core/error.h"
#include "segmamba/core/files.h"
#include "segmamba/core/text.h"
#include "segmamba/core/yaml.h"

namespace segmamba::engine {
namespace {

constexpr const char* kIteration = "iteration";
// A run has 8 columns, and 3 for each of its regions (255 at most) and for their mean. Each takes
// some hundred bytes before it has a value.
constexpr std::int64_t kMostColumns = 4096;

// Lines of plain numbers: ten times as fast as parse_csv, which allows for quotes and keeps text.
class NumberRows {
 public:
  NumberRows(std::vector<std::string> columns, std::string origin)
      : columns_(std::move(columns)), origin_(std::move(origin)) {}

  // One number a column, none where the cell is empty. False for an empty line.
  bool read(std::string_view row, std::vector<std::optional<double>>& cells) {
    ++line_;
    if (row.ends_with('\r')) row.remove_suffix(1);
    if (row.empty()) return false;
    std::size_t column = 0;
    for (const char* begin = row.data();; ++column) {
      const char* const row_end = row.data() + row.size();
      const char* const end = std::find(begin, row_end, ',');
      if (column < cells.size()) cells[column] = number({begin, end}, columns_[column]);
      if (end == row_end) break;
      begin = end + 1;
    }
    if (column + 1 != cells.size()) {
      throw Error(concat(origin_, ":", line_, ": has ", column + 1, " fields where the header has ",
                         cells.size()));
    }
    return true;
  }

 private:
  std::optional<double> number(std::string_view text, const std::string& column) const {
    if (text.empty()) return std::nullopt;
    double value = 0;
    const auto result = std::from_chars(text.data(), text.data() + text.size(), value);
    if (result.ec != std::errc() || result.ptr != text.data() + text.size()) {
      throw Error(
          concat(origin_, ":", line_, ": '", text, "' in column ", column, " is no number"));
    }
    return value;
  }

  std::vector<std::string> columns_;
  std::string origin_;
  std::int64_t line_ = 1;  // the header's
};

// Builds the history line by line.
class HistoryBuild {
 public:
  explicit HistoryBuild(const std::filesystem::path& metrics) : origin_(metrics.string()) {}

  void add(std::string_view line) {
    if (!rows_) return begin(line);
    if (!rows_->read(line, cells_) || !cells_[iteration_]) return;
    for (std::size_t i = 0; i < cells_.size(); ++i) {
      if (cells_[i] && i != iteration_) history_.columns[i].add(*cells_[iteration_], *cells_[i]);
    }
  }

  RunHistory finish() {
    if (rows_) history_.columns.erase(history_.columns.begin() + std::ptrdiff_t(iteration_));
    return std::move(history_);
  }

 private:
  void begin(std::string_view header) {
    if (std::count(header.begin(), header.end(), ',') >= kMostColumns) {
      throw Error(concat(origin_, ":1: has more than ", kMostColumns, " columns"));
    }
    const auto names = parse_csv(concat(header, "\n"), origin_).header.fields;
    const auto place = std::find(names.begin(), names.end(), kIteration);
    if (place == names.end()) {
      throw Error(concat(origin_, ":1: has no column '", kIteration, "'"));
    }
    iteration_ = static_cast<std::size_t>(place - names.begin());
    history_.columns.reserve(names.size());
    for (const auto& name : names) history_.columns.emplace_back(name);
    cells_.resize(names.size());
    rows_.emplace(names, origin_);
  }

  std::string origin_;
  std::optional<NumberRows> rows_;  // once the header is known
  std::size_t iteration_ = 0;       // the column of that name
  std::vector<std::optional<double>> cells_;
  RunHistory history_;
};

// 0 for what is no number; numbers of a file may be larger than integers go.
std::int64_t whole(double value) {
  constexpr double kLargest = 0x1p53;
  return std::isnan(value) ? 0 : static_cast<std::int64_t>(std::clamp(value, -kLargest, kLargest));
}

// Of the finite values; nan where there is none.
double mean_of_last(const Column& column, std::int64_t most) {
  double sum = 0;
  std::int64_t count = 0;
  const auto& values = column.recent();
  for (auto value = values.rbegin(); value != values.rend() && count < most; ++value) {
    if (!std::isfinite(*value)) continue;
    sum += *value;
    ++count;
  }
  return sum / static_cast<double>(count);
}

}  // namespace

std::int64_t integer_at(const ConfigValues& config, const std::string& key) {
  for (const auto& [name, value] : config) {
    if (name == key) return to_integer(value).value_or(0);
  }
  return 0;
}

void Column::Point::merge(const Point& next) {
  count += next.count;
  iterations += next.iterations;
  values += next.values;
  if (next.least.value < least.value) least = next.least;
  if (next.greatest.value > greatest.value) greatest = next.greatest;
}

void Column::halve() {
  for (std::size_t i = 0; i + 1 < points_.size(); i += 2) {
    points_[i].merge(points_[i + 1]);
    points_[i / 2] = points_[i];
  }
  points_.resize(points_.size() / 2);
  point_size_ *= 2;
}

void Column::add(double iteration, double value) {
  ++size_;
  sum_ += value;
  last_iteration_ = iteration;
  recent_.push_back(value);
  if (recent_.size() > kRecent) recent_.pop_front();
  if (!std::isfinite(value)) return;
  const Value here{iteration, value};
  const Point point{
      .count = 1, .iterations = iteration, .values = value, .least = here, .greatest = here};
  if (!points_.empty() && points_.back().count < point_size_) {
    points_.back().merge(point);
  } else {
    static_assert(kMostPoints % 2 == 0);
    if (points_.size() == kMostPoints) halve();
    points_.push_back(point);
  }
}

Series Column::means() const {
  Series series;
  for (const auto& point : points_) {
    series.iterations.push_back(point.iterations / static_cast<double>(point.count));
    series.values.push_back(point.values / static_cast<double>(point.count));
  }
  return series;
}

Series Column::extremes() const {
  Series series;
  const auto append = [&](const Value& value) {
    series.iterations.push_back(value.iteration);
    series.values.push_back(value.value);
  };
  for (const auto& point : points_) {
    const bool is_rising = point.least.iteration <= point.greatest.iteration;
    append(is_rising ? point.least : point.greatest);
    if (point.count > 1) append(is_rising ? point.greatest : point.least);
  }
  return series;
}

const Column& RunHistory::operator[](const std::string& name) const {
  static const Column kNone("");
  const auto found = std::find_if(columns.begin(), columns.end(),
                                  [&](const Column& item) { return item.name() == name; });
  return found == columns.end() ? kNone : *found;
}

std::int64_t RunHistory::iterations() const {
  double last = 0;
  for (const auto& column : columns) last = std::max(last, column.last_iteration());
  return whole(last);
}

RunHistory read_history(const std::filesystem::path& metrics) {
  HistoryBuild build(metrics);
  if (std::filesystem::exists(metrics)) {
    read_whole_lines(metrics, [&](std::string_view line) { build.add(line); });
  }
  return build.finish();
}

RunSummary summarise(const RunHistory& history, const ConfigValues& config) {
  RunSummary summary;
  summary.iterations = history.iterations();
  summary.total_iterations = integer_at(config, "training.iterations");
  if (summary.total_iterations == 0) {
    summary.total_iterations =
        whole(static_cast<double>(integer_at(config, "training.epochs")) *
              static_cast<double>(integer_at(config, "training.iterations_per_epoch")));
  }

  const auto asked = std::find_if(config.begin(), config.end(), [](const auto& item) {
    return item.first == "validation.best_metric";
  });
  summary.best_metric = asked == config.end() ? "dice_mean" : asked->second;
  const double sign = starts_with(summary.best_metric, "hd95") ? -1 : 1;  // less is better
  const Series metric = history[summary.best_metric].extremes();
  for (std::size_t i = 0; i < metric.size(); ++i) {
    const double value = metric.values[i];
    if (std::isnan(summary.best) || sign * value > sign * summary.best) {
      summary.best = value;
      summary.best_iteration = whole(metric.iterations[i]);
    }
  }

  summary.loss = mean_of_last(history["loss"], RunSummary::kLossSteps);
  const Column& seconds = history["seconds"];
  summary.step_seconds = seconds.sum();
  summary.data_seconds = history["data_seconds"].sum();
  if (summary.step_seconds > 0) {
    summary.iterations_per_second = static_cast<double>(seconds.size()) / summary.step_seconds;
  }
  summary.skipped_steps = whole(history["skipped"].sum());
  return summary;
}

ConfigValues read_config_values(const RunFolder& run) {
  if (!std::filesystem::is_regular_file(run.config())) {
    throw Error(concat(run.path.string(), " is no run folder: it holds no ",
                       run.config().filename().string()));
  }
  return yaml_values(read_file(run.config()), run.config().string());
}

}  // namespace segmamba::engine
