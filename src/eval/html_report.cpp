// The page: tables as HTML, everything that can be sorted or chosen as JSON for report_page.js.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <map>

#include "report_page.h"
#include "segmamba/core/html.h"
#include "segmamba/core/text.h"
#include "segmamba/core/version.h"
#include "segmamba/eval/report.h"
#include "tables.h"

namespace segmamba::eval {
namespace {

// Six digits: enough for a chart, and the page stays small. cases.csv has them all.
Json page_number(double value) {
  if (std::isnan(value)) return nullptr;
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  char text[32];
  std::snprintf(text, sizeof text, "%.6g", value);
  return std::strtod(text, nullptr);
}

// Places in a list of names.
template <class List, class Name>
std::map<std::string, std::size_t> places_of(const List& list, Name name) {
  std::map<std::string, std::size_t> places;
  for (const auto& item : list) places.emplace(name(item), places.size());
  return places;
}

Json page_data(const Evaluation& evaluation) {
  const auto methods = places_of(evaluation.methods, [](const auto& m) { return m.name; });
  const auto cases = places_of(evaluation.cases, [](const auto& c) { return c; });
  const auto regions = places_of(evaluation.regions, [](const auto& r) { return r.name; });
  Json data = Json::object();
  for (const char* key : {"methods", "regions", "cases", "conventions"}) data[key] = Json::array();
  for (const Method& method : evaluation.methods) data["methods"].push_back(method.name);
  for (const auto& region : evaluation.regions) data["regions"].push_back(region.name);
  for (const auto& name : evaluation.cases) data["cases"].push_back(name);

  // values[convention][metric][method][region][case]
  std::map<std::pair<std::string, std::string>, Json> values;
  const Json empty_cases(std::vector<Json>(evaluation.cases.size(), nullptr));
  const Json empty_regions(std::vector<Json>(evaluation.regions.size(), empty_cases));
  const Json empty(std::vector<Json>(evaluation.methods.size(), empty_regions));
  for (const Row& row : evaluation.rows) {
    Json& table = values.try_emplace({row.convention, row.metric}, empty).first->second;
    table[methods.at(row.method)][regions.at(row.region)][cases.at(row.case_name)] =
        page_number(row.value);
  }
  for (const auto& convention : evaluation.conventions) {
    Json item = Json::object();
    item["name"] = convention.name;
    item["voxels"] = convention.unit == metrics::Unit::kVoxels;
    item["metrics"] = Json::array();
    for (const auto& rule : convention.metrics) {
      const auto found = values.find({convention.name, rule.name});
      if (found == values.end()) continue;
      const metrics::Better better = metrics::better(rule.quantity);
      item["metrics"].push_back({{"name", rule.name},
                                 {"higher", better == metrics::Better::kHigher},
                                 {"main", is_in_main_table(evaluation, convention.name, rule.name)},
                                 {"values", std::move(found->second)}});
    }
    data["conventions"].push_back(std::move(item));
  }

  data["volumes"] = empty_regions;
  for (const auto& [name, by_region] : evaluation.reference_ml) {
    for (const auto& [region, millilitres] : by_region) {
      data["volumes"][regions.at(region)][cases.at(name)] = page_number(millilitres);
    }
  }
  // Why a case has no scores, by method and case.
  data["unscored"] = Json(std::vector<Json>(evaluation.methods.size(), Json::object()));
  for (const Problem& problem : evaluation.problems) {
    if (!problem.prevents_scoring || !cases.contains(problem.case_name)) continue;
    for (const auto& [method, place] : methods) {
      if (!problem.method.empty() && problem.method != method) continue;
      data["unscored"][place][std::to_string(cases.at(problem.case_name))] = problem.text;
    }
  }
  data["pictures"] = Json(std::vector<Json>(evaluation.methods.size(), Json::object()));
  for (const CasePicture& picture : evaluation.pictures) {
    data["pictures"][methods.at(picture.method)][std::to_string(cases.at(picture.case_name))] =
        base64(picture.png);
  }
  return data;
}

std::string table_section(const std::string& id, const Table& table) {
  return html_section(id, table.title, to_html(table));
}

std::string folded(const Table& table) {
  if (table.empty()) return "";
  return concat("<details><summary>", escape_html(table.title), " (", table.rows.size(),
                table.rows.size() == 1 ? " row" : " rows", ")</summary>\n", to_html(table),
                "</details>\n");
}

std::string headline(const Evaluation& evaluation) {
  std::vector<std::string> conventions;
  for (const auto& convention : evaluation.conventions) conventions.push_back(convention.name);
  std::string list;
  for (const Method& method : evaluation.methods) {
    list += concat("<li><b>", escape_html(method.name), "</b> <span class=\"path\">",
                   escape_html(method.predictions.string()), "</span></li>\n");
  }
  return concat("<header><h1>Segmentation scores</h1>\n<p>", evaluation.cases.size(),
                evaluation.cases.size() == 1 ? " case" : " cases", ", scored by ",
                escape_html(join(conventions, ", ")), " with segmamba-eval ",
                escape_html(version()), "</p>\n<ul class=\"methods\">\n", list, "</ul></header>\n");
}

std::string explanations(const Evaluation& evaluation) {
  std::string text;
  for (const auto& convention : evaluation.conventions) {
    text += concat("<details><summary>", escape_html(convention.name), "</summary><pre>",
                   escape_html(metrics::explain(convention)), "</pre></details>\n");
  }
  return text;
}

}  // namespace

std::string report_html(const Evaluation& evaluation, const Analysis& analysis) {
  std::string page = headline(evaluation);
  const Table problems = problem_table(evaluation);
  if (!problems.empty()) {
    page += concat("<p class=\"alert\"><a href=\"#problems\">", problems.rows.size(),
                   problems.rows.size() == 1 ? " problem" : " problems",
                   " of the input</a>; cases that could not be scored are left out of the "
                   "means.</p>\n");
  }
  page += table_section("table", main_table(evaluation, analysis));
  page += table_section("leaderboard", leaderboard_table(analysis));
  page += html_section("charts", "Distribution over cases", embedded::kPageCharts);
  constexpr std::size_t kManyRows = 24;
  const Table comparisons = comparison_table(evaluation, analysis);
  const bool is_long = comparisons.rows.size() > kManyRows;
  page += html_section("statistics", "Statistics",
                       (is_long ? folded(comparisons) : to_html(comparisons)) +
                           folded(spread_table(evaluation, analysis)) +
                           folded(other_metrics_table(evaluation, analysis)));
  const Table worst = worst_table(analysis);
  page += worst.rows.size() > kManyRows ? html_section("worst", worst.title, folded(worst))
                                        : table_section("worst", worst);
  page += html_section("cases", "Cases", embedded::kPageCases);
  page += table_section("problems", problems);
  std::string notices;
  for (const std::string& notice : evaluation.notices) {
    notices += concat("<p>", escape_html(notice), "</p>\n");
  }
  page += html_section("notices", "Notices", notices);
  page += html_section("explain", "What the conventions count", explanations(evaluation));
  page += concat(html_json("data", page_data(evaluation)), "<script>", embedded::kPageScript,
                 "</script>\n");
  return html_page("Segmentation scores", embedded::kPageStyle, page);
}

}  // namespace segmamba::eval
