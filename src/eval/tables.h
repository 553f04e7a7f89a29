#pragma once
// The tables of an evaluation as cells, and their forms: plain text, Markdown, LaTeX, HTML.

#include <string>
#include <vector>

#include "segmamba/eval/analysis.h"
#include "segmamba/eval/evaluate.h"

namespace segmamba::eval {

struct Cell {
  enum class Mark { kNone, kBest, kSecond };

  Cell(std::string cell_text = "", Mark cell_mark = Mark::kNone)  // NOLINT: a text is a cell
      : text(std::move(cell_text)), mark(cell_mark) {}
  Cell(const char* cell_text) : text(cell_text) {}  // NOLINT

  std::string text;
  Mark mark = Mark::kNone;
};

struct Table {
  std::string title;
  std::vector<std::string> header;
  std::size_t text_columns = 1;                             // flush left; the others hold numbers
  std::size_t group_column = static_cast<std::size_t>(-1);  // a new value starts a group of rows
  std::vector<std::vector<Cell>> rows;
  std::vector<std::string> notes;  // below the table

  bool empty() const { return rows.empty(); }
};

// The shape of Table 1 of the paper: Dice (%) and HD95 of each region, then of their average; a row
// for each convention and method, a second one for lesions where the convention scores them. Best
// and second best of each column are marked among the methods of a convention.
Table main_table(const Evaluation& evaluation, const Analysis& analysis);
// Means with standard deviations of every metric that the main table does not show.
Table other_metrics_table(const Evaluation& evaluation, const Analysis& analysis);
// How the numbers of the main table spread over cases.
Table spread_table(const Evaluation& evaluation, const Analysis& analysis);
// Of the metrics of the main table.
Table comparison_table(const Evaluation& evaluation, const Analysis& analysis);
Table leaderboard_table(const Analysis& analysis);
Table worst_table(const Analysis& analysis);
Table problem_table(const Evaluation& evaluation);

// True for the metrics that the main table shows.
bool is_in_main_table(const Evaluation& evaluation, const std::string& convention,
                      const std::string& metric);
// "3.2e-05", "0.012"
std::string format_p(double p);
// Dice and its like are shares, shown in percent; everything else as it is.
double shown_scale(const std::string& metric);

std::string to_text(const Table& table);
std::string to_markdown(const Table& table);
std::string to_html(const Table& table);
// The main table in a `table` environment; needs booktabs.
std::string main_table_latex(const Evaluation& evaluation, const Analysis& analysis);

}  // namespace segmamba::eval
