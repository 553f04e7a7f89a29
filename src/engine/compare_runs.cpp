#include "segmamba/engine/compare_runs.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "segmamba/core/files.h"
#include "segmamba/core/text.h"
#include "segmamba/core/yaml.h"
#include "segmamba/engine/environment.h"
#include "segmamba/engine/run_history.h"
#include "segmamba/engine/train_config.h"

namespace segmamba::engine {
namespace {

constexpr const char* kUnknown = "-";

struct Run {
  std::string name;
  ConfigValues config;
  RunHistory history;
  RunSummary summary;
  Json start;
};

Run read_run(const std::filesystem::path& path) {
  const RunFolder folder{path};
  Run run{.name = path.string(),
          .config = read_config_values(folder),
          .history = read_history(folder.metrics()),
          .summary = {},
          .start = last_start(folder.environment())};
  run.summary = summarise(run.history, run.config);
  return run;
}

using Row = std::vector<std::string>;

// Letters, not bytes: names may be UTF-8.
std::size_t width(const std::string& text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; }));
}

std::string table_text(const std::vector<Row>& rows) {
  std::vector<std::size_t> widths(rows.front().size());
  for (const auto& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], width(row[i]));
  }
  std::string text;
  for (std::size_t r = 0; r < rows.size(); ++r) {
    for (std::size_t i = 0; i < widths.size(); ++i) {
      text += concat("| ", rows[r][i], std::string(widths[i] - width(rows[r][i]), ' '), " ");
    }
    text += "|\n";
    if (r > 0) continue;
    for (const auto size : widths) text += concat("|", std::string(size + 2, '-'));
    text += "|\n";
  }
  return text;
}

std::string number(double value, int digits) {
  return std::isnan(value) ? kUnknown : format_fixed(value, digits);
}

std::string iterations_text(const Run& run) {
  const auto& summary = run.summary;
  if (summary.total_iterations == 0) return concat(summary.iterations);
  return concat(summary.iterations, " of ", summary.total_iterations);
}

std::string best_text(const Run& run) {
  const auto& summary = run.summary;
  if (std::isnan(summary.best)) return kUnknown;
  return concat(summary.best_metric, " ", format_fixed(summary.best, 4), " at ",
                summary.best_iteration);
}

// The columns of metrics.csv that any of the runs has, in the order in which they are met, and
// "hd95_mean" alone of HD95.
std::vector<std::string> score_columns(const std::vector<Run>& runs) {
  std::vector<std::string> names;
  for (const auto& run : runs) {
    for (const auto& column : run.history.columns) {
      const auto& name = column.name();
      const bool is_score = starts_with(name, "dice_") || name == "hd95_mean";
      if (is_score && std::find(names.begin(), names.end(), name) == names.end()) {
        names.push_back(name);
      }
    }
  }
  return names;
}

std::vector<Row> result_rows(const std::vector<Run>& runs) {
  std::vector<Row> rows;
  const auto add = [&](const std::string& name, const std::function<std::string(const Run&)>& of) {
    Row row = {name};
    for (const auto& run : runs) {
      const std::string text = of(run);
      row.push_back(text.empty() ? kUnknown : text);
    }
    rows.push_back(std::move(row));
  };
  add("", [](const Run& run) { return run.name; });
  add("iterations", iterations_text);
  add("best", best_text);
  for (const auto& name : score_columns(runs)) {
    const bool is_hd95 = starts_with(name, "hd95");
    add(concat("last ", name, is_hd95 ? ", mm" : ""), [&](const Run& run) {
      const Column& column = run.history[name];
      return column.empty() ? kUnknown : number(column.recent().back(), is_hd95 ? 2 : 4);
    });
  }
  add(concat("loss, last ", RunSummary::kLossSteps, " steps"),
      [](const Run& run) { return number(run.summary.loss, 4); });
  add("iterations/s", [](const Run& run) { return number(run.summary.iterations_per_second, 2); });
  add("hours, without validations", [](const Run& run) {
    return run.history["seconds"].empty() ? kUnknown : number(run.summary.step_seconds / 3600, 2);
  });
  add("skipped steps", [](const Run& run) { return concat(run.summary.skipped_steps); });
  add("device", [](const Run& run) { return device_text(run.start); });
  add("version", [](const Run& run) { return version_text(run.start); });
  return rows;
}

std::string value_of(const ConfigValues& config, const std::string& key) {
  const auto found = std::find_if(config.begin(), config.end(),
                                  [&](const auto& item) { return item.first == key; });
  return found == config.end() ? kUnknown : found->second;
}

// The keys that do not have the same value in all of the configs, below a header row.
std::vector<Row> differing_rows(Row header, const std::vector<ConfigValues>& configs) {
  std::vector<Row> rows = {std::move(header)};
  std::vector<std::string> keys;
  for (const auto& config : configs) {
    for (const auto& [key, value] : config) {
      if (std::find(keys.begin(), keys.end(), key) == keys.end()) keys.push_back(key);
    }
  }
  for (const auto& key : keys) {
    Row row = {key};
    for (const auto& config : configs) row.push_back(value_of(config, key));
    if (std::any_of(row.begin() + 2, row.end(), [&](const auto& cell) { return cell != row[1]; })) {
      rows.push_back(std::move(row));
    }
  }
  return rows;
}

}  // namespace

std::string compare_runs(const std::vector<std::filesystem::path>& folders) {
  std::vector<Run> runs;
  for (const auto& folder : folders) runs.push_back(read_run(folder));
  Row header = {"config"};
  std::vector<ConfigValues> configs;
  for (const auto& run : runs) {
    header.push_back(run.name);
    configs.push_back(run.config);
  }
  if (runs.size() == 1) {
    header.emplace_back("default");
    configs.push_back(yaml_values(config_to_yaml(TrainConfig{}), "the defaults"));
  }
  const auto differences = differing_rows(std::move(header), configs);
  const std::string config = differences.size() > 1 ? table_text(differences)
                             : runs.size() == 1     ? "All config keys have their defaults.\n"
                                                    : "The configs are the same.\n";
  return concat(table_text(result_rows(runs)), "\n", config);
}

}  // namespace segmamba::engine
