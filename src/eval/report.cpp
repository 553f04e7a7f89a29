#include "segmamba/eval/report.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "segmamba/core/csv.h"
#include "segmamba/core/files.h"
#include "segmamba/core/text.h"
#include "segmamba/core/version.h"
#include "tables.h"

namespace segmamba::eval {
namespace fs = std::filesystem;
namespace {

constexpr std::array kReportFiles = {"cases.csv", "summary.json", "table.md",
                                     "table.tex", "report.html",  "problems.csv"};
// Beside them while they are replaced.
constexpr const char* kUnfinishedName = ".segmamba-eval-unfinished";

std::string csv_number(double value) {
  if (!std::isfinite(value)) return format_double(value);
  char text[32];
  std::snprintf(text, sizeof text, "%.17g", value);
  return text;
}

Json json_interval(const Interval& interval) {
  return Json::array({json_number(interval.low), json_number(interval.high)});
}

Json settings_json(const Evaluation& evaluation, const Analysis& analysis) {
  Json json = Json::object();
  json["methods"] = Json::object();
  for (const Method& method : evaluation.methods) {
    json["methods"][method.name] = method.predictions.string();
  }
  json["conventions"] = Json::object();
  for (const auto& convention : evaluation.conventions) {
    json["conventions"][convention.name] = metrics::explain(convention);
  }
  json["regions"] = Json::object();
  for (const auto& region : evaluation.regions) {
    Json labels = Json::array();
    for (const std::uint8_t label : region.labels) labels.push_back(label);
    json["regions"][region.name] = std::move(labels);
  }
  json["bootstrap"] = {{"resamples", analysis.options.resamples}, {"seed", analysis.options.seed}};
  json["nan"] = "left out of mean, std, median, quartiles, intervals and tests; counted";
  json["inf"] = "kept: the mean is infinite";
  json["not_scored"] = "cases without scores are left out and counted";
  json["std"] = "of the population (n, not n - 1)";
  json["mean_ci95"] = "percentile bootstrap over cases";
  json["test"] =
      "Wilcoxon signed-rank, two-sided; Holm over the pairs of methods and the regions of "
      "one convention and metric";
  return json;
}

Json to_json(const Summary& summary) {
  Json json = Json::object();
  json["method"] = summary.method;
  json["convention"] = summary.convention;
  json["region"] = summary.region;
  json["metric"] = summary.metric;
  json["mean"] = json_number(summary.mean);
  json["std"] = json_number(summary.std);
  json["median"] = json_number(summary.median);
  json["q25"] = json_number(summary.q25);
  json["q75"] = json_number(summary.q75);
  json["min"] = json_number(summary.min);
  json["max"] = json_number(summary.max);
  json["mean_ci95"] = json_interval(summary.mean_ci95);
  json["n"] = summary.cases - summary.nan;
  json["nan"] = summary.nan;
  json["inf"] = summary.inf;
  json["not_scored"] = summary.not_scored;
  return json;
}

Json to_json(const Comparison& comparison) {
  Json json = Json::object();
  json["a"] = comparison.method_a;
  json["b"] = comparison.method_b;
  json["convention"] = comparison.convention;
  json["region"] = comparison.region;
  json["metric"] = comparison.metric;
  json["pairs"] = comparison.pairs;
  json["mean_difference"] = json_number(comparison.mean_difference);
  json["difference_ci95"] = json_interval(comparison.difference_ci95);
  json["wilcoxon_statistic"] = json_number(comparison.test.statistic);
  json["equal_pairs"] = comparison.test.zeros;
  json["p"] = json_number(comparison.test.p);
  json["p_holm"] = json_number(comparison.p_holm);
  return json;
}

// The rows whose cell in `column` is `value`; a note says how many others there are.
Table rows_with(Table table, std::size_t column, const std::string& value) {
  const std::size_t all = table.rows.size();
  std::erase_if(table.rows, [&](const auto& row) { return row[column].text != value; });
  if (table.rows.size() < all) {
    table.notes.push_back(concat(all - table.rows.size(),
                                 " more rows, of other conventions, in table.md (--output)."));
  }
  return table;
}

}  // namespace

std::string cases_csv(const Evaluation& evaluation) {
  std::string text = "method,case,region,convention,metric,value\n";
  for (const Row& row : evaluation.rows) {
    text += csv_line(
        {row.method, row.case_name, row.region, row.convention, row.metric, csv_number(row.value)});
  }
  return text;
}

std::string problems_csv(const Evaluation& evaluation) {
  std::string text = "kind,method,case,scored,text\n";
  for (const Problem& problem : evaluation.problems) {
    text += csv_line({to_string(problem.kind), problem.method, problem.case_name,
                      problem.prevents_scoring ? "no" : "yes", problem.text});
  }
  return text;
}

Json summary_json(const Evaluation& evaluation, const Analysis& analysis) {
  Json json = Json::object();
  json["program"] = "segmamba-eval " + version();
  json["settings"] = settings_json(evaluation, analysis);
  json["cases"] = evaluation.cases.size();
  json["problems"] = Json::array();
  for (const Problem& problem : evaluation.problems) {
    json["problems"].push_back({{"kind", to_string(problem.kind)},
                                {"method", problem.method},
                                {"case", problem.case_name},
                                {"scored", !problem.prevents_scoring},
                                {"text", problem.text}});
  }
  json["notices"] = evaluation.notices;
  json["summary"] = Json::array();
  for (const Summary& summary : analysis.summaries) json["summary"].push_back(to_json(summary));
  json["comparisons"] = Json::array();
  for (const Comparison& item : analysis.comparisons) json["comparisons"].push_back(to_json(item));
  json["leaderboard"] = Json::array();
  for (const Standing& standing : analysis.leaderboard) {
    json["leaderboard"].push_back({{"convention", standing.convention},
                                   {"method", standing.method},
                                   {"mean_rank", json_number(standing.mean_rank)},
                                   {"mean_dice", json_number(standing.mean_dice)},
                                   {"mean_hd95", json_number(standing.mean_hd95)}});
  }
  json["worst_cases"] = Json::array();
  for (const WorstCase& worst : analysis.worst) {
    json["worst_cases"].push_back({{"method", worst.method},
                                   {"convention", worst.convention},
                                   {"metric", worst.metric},
                                   {"case", worst.case_name},
                                   {"value", json_number(worst.value)}});
  }
  return json;
}

std::string table_text(const Evaluation& evaluation, const Analysis& analysis) {
  constexpr std::size_t kFewRows = 12;
  std::string text = to_text(main_table(evaluation, analysis));
  const auto add = [&](const Table& table) {
    if (table.empty()) return;
    text += concat(text.empty() ? "" : "\n", table.title, "\n", to_text(table));
  };
  // Metrics that were asked for by name are few; all that a tool has are for the files.
  const Table others = other_metrics_table(evaluation, analysis);
  if (text.empty() || others.rows.size() <= kFewRows) add(others);
  add(leaderboard_table(analysis));
  constexpr std::size_t kConventionColumn = 1;
  const std::string& convention = evaluation.conventions.front().name;
  add(rows_with(comparison_table(evaluation, analysis), kConventionColumn, convention));
  if (evaluation.cases.size() > 1) {
    add(rows_with(worst_table(analysis), kConventionColumn, convention));
  }
  return text;
}

std::string table_markdown(const Evaluation& evaluation, const Analysis& analysis) {
  std::string text;
  for (const Table& table :
       {main_table(evaluation, analysis), leaderboard_table(analysis),
        comparison_table(evaluation, analysis), spread_table(evaluation, analysis),
        other_metrics_table(evaluation, analysis), worst_table(analysis),
        problem_table(evaluation)}) {
    text += to_markdown(table);
  }
  return text;
}

std::string table_latex(const Evaluation& evaluation, const Analysis& analysis) {
  return main_table_latex(evaluation, analysis);
}

void write_reports(const Evaluation& evaluation, const Analysis& analysis, const fs::path& folder,
                   bool html) {
  // All is made before the old ones go.
  std::vector<std::pair<const char*, std::string>> texts = {
      {"cases.csv", cases_csv(evaluation)},
      {"table.md", table_markdown(evaluation, analysis)},
      {"table.tex", table_latex(evaluation, analysis)}};
  if (html) texts.emplace_back("report.html", report_html(evaluation, analysis));
  if (!evaluation.problems.empty()) texts.emplace_back("problems.csv", problems_csv(evaluation));
  const Json summary = summary_json(evaluation, analysis);
  make_folders(folder);
  remove_stale_temporaries(folder);
  // What is cut off in between leaves files of one evaluation, never of two.
  write_file_atomically(folder / kUnfinishedName, "");
  for (const char* name : kReportFiles) remove_file(folder / name);
  for (const auto& [name, text] : texts) write_file_atomically(folder / name, text);
  write_json(folder / "summary.json", summary);
  remove_file(folder / kUnfinishedName);
}

bool holds_reports(const fs::path& folder) {
  if (fs::exists(folder / kUnfinishedName)) return false;
  return std::any_of(kReportFiles.begin(), kReportFiles.end(),
                     [&](const char* name) { return fs::exists(folder / name); });
}

}  // namespace segmamba::eval
