#include "segmamba/engine/run_history.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numeric>
#include <optional>
#include <string_view>

#include "segmamba/core/csv.h"
#include "segmamba/core/error.h"
#include "segmamba/core/files.h"
#include "segmamba/core/text.h"
#include "segmamba/core/yaml.h"

namespace segmamba::engine {
namespace {

constexpr const char* kIteration = "iteration";

// Rows of plain numbers: ten times as fast as parse_csv, which allows for quotes and keeps text.
class NumberRows {
 public:
  NumberRows(std::string_view rows, const std::vector<std::string>& columns, std::string origin)
      : rest_(rows), columns_(columns), origin_(std::move(origin)) {}

  // One number a column, none where the cell is empty. False at the end.
  bool next(std::vector<std::optional<double>>& cells) {
    std::string_view row;
    do {
      if (rest_.empty()) return false;
      const auto end = rest_.find('\n');
      row = rest_.substr(0, end);
      rest_.remove_prefix(end + 1);
      ++line_;
      if (row.ends_with('\r')) row.remove_suffix(1);
    } while (row.empty());
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

  std::string_view rest_;
  const std::vector<std::string>& columns_;
  std::string origin_;
  std::int64_t line_ = 1;  // the header's
};

double sum(const Series& series) {
  return std::accumulate(series.values.begin(), series.values.end(), 0.0);
}

// 0 for what is no number; numbers of a file may be larger than integers go.
std::int64_t whole(double value) {
  constexpr double kLargest = 0x1p53;
  return std::isnan(value) ? 0 : static_cast<std::int64_t>(std::clamp(value, -kLargest, kLargest));
}

// Of the finite values; nan where there is none.
double mean_of_last(const Series& series, std::int64_t most) {
  double sum = 0;
  std::int64_t count = 0;
  for (auto value = series.values.rbegin(); value != series.values.rend() && count < most;
       ++value) {
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

const Series& RunHistory::operator[](const std::string& name) const {
  static const Series kNone;
  const auto found = std::find_if(series.begin(), series.end(),
                                  [&](const Series& item) { return item.name == name; });
  return found == series.end() ? kNone : *found;
}

std::int64_t RunHistory::iterations() const {
  double last = 0;
  for (const auto& item : series) {
    if (!item.empty()) last = std::max(last, item.iterations.back());
  }
  return whole(last);
}

RunHistory read_history(const std::filesystem::path& metrics) {
  if (!std::filesystem::exists(metrics)) return {};
  std::string text = read_file(metrics);
  text.resize(text.rfind('\n') + 1);
  if (text.empty()) return {};
  const auto header_end = text.find('\n') + 1;
  const auto columns = parse_csv(text.substr(0, header_end), metrics.string()).header.fields;
  const auto place = std::find(columns.begin(), columns.end(), kIteration) - columns.begin();
  if (place == std::ssize(columns)) {
    throw Error(concat(metrics.string(), ":1: has no column '", kIteration, "'"));
  }
  const auto iteration = static_cast<std::size_t>(place);

  RunHistory history;
  for (const auto& name : columns) history.series.push_back({.name = name});
  std::vector<std::optional<double>> cells(columns.size());
  for (NumberRows rows(std::string_view(text).substr(header_end), columns, metrics.string());
       rows.next(cells);) {
    if (!cells[iteration]) continue;
    for (std::size_t column = 0; column < cells.size(); ++column) {
      if (!cells[column] || column == iteration) continue;
      history.series[column].iterations.push_back(*cells[iteration]);
      history.series[column].values.push_back(*cells[column]);
    }
  }
  history.series.erase(history.series.begin() + place);
  return history;
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
  const Series& metric = history[summary.best_metric];
  for (std::size_t i = 0; i < metric.size(); ++i) {
    const double value = metric.values[i];
    if (std::isnan(value)) continue;
    if (std::isnan(summary.best) || sign * value > sign * summary.best) {
      summary.best = value;
      summary.best_iteration = whole(metric.iterations[i]);
    }
  }

  summary.loss = mean_of_last(history["loss"], RunSummary::kLossSteps);
  const Series& seconds = history["seconds"];
  summary.step_seconds = sum(seconds);
  summary.data_seconds = sum(history["data_seconds"]);
  if (summary.step_seconds > 0) {
    summary.iterations_per_second = static_cast<double>(seconds.size()) / summary.step_seconds;
  }
  summary.skipped_steps = whole(sum(history["skipped"]));
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
