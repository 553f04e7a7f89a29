#include "tables.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <set>
#include <tuple>

#include "listed.h"
#include "segmamba/core/html.h"
#include "segmamba/core/text.h"

namespace segmamba::eval {
namespace {

using Cells = std::vector<Cell>;
using Mark = Cell::Mark;

constexpr double kPercent = 100;

// A row of the main table: one convention, of whole regions or of lesions.
struct Line {
  const metrics::Convention* convention;
  Scope scope;
  std::string dice, hd95;  // metrics; "" where there are none

  std::string label() const {
    return convention->name + (scope == Scope::kLesions ? " lesion-wise" : "");
  }
};

class Summaries {
 public:
  explicit Summaries(const Analysis& analysis) {
    for (const Summary& summary : analysis.summaries) {
      by_key_[{summary.method, summary.region, summary.convention, summary.metric}] = &summary;
    }
  }
  // Null where there are no rows.
  const Summary* find(const std::string& method, const std::string& region,
                      const std::string& convention, const std::string& metric) const {
    const auto found = by_key_.find({method, region, convention, metric});
    return found == by_key_.end() ? nullptr : found->second;
  }
  bool has(const Evaluation& evaluation, const std::string& convention,
           const std::string& metric) const {
    return !metric.empty() && !evaluation.regions.empty() &&
           find(evaluation.methods.front().name, evaluation.regions.front().name, convention,
                metric) != nullptr;
  }

 private:
  std::map<std::tuple<std::string, std::string, std::string, std::string>, const Summary*> by_key_;
};

std::vector<Line> main_lines(const Evaluation& evaluation) {
  std::vector<Line> lines;
  for (const metrics::Convention& convention : evaluation.conventions) {
    for (const Scope scope : {Scope::kRegions, Scope::kLesions}) {
      Line line{&convention, scope, dice_metric(evaluation, convention.name, scope),
                hd95_metric(evaluation, convention.name, scope)};
      if (!line.dice.empty() || !line.hd95.empty()) lines.push_back(std::move(line));
    }
  }
  return lines;
}

// Marks the best and the second best of each number column in rows [first, end). Numbers that look
// the same share their mark.
void mark_best(Table& table, std::size_t first, const std::vector<bool>& higher_is_better) {
  for (std::size_t column = 0; column < higher_is_better.size(); ++column) {
    std::set<double> values;
    const auto value_of = [&](const Cells& row) {
      return std::strtod(row[table.text_columns + column].text.c_str(), nullptr);
    };
    const auto is_number = [&](const Cells& row) {
      const std::string& text = row[table.text_columns + column].text;
      return !text.empty() && text != "-" && text != "nan";
    };
    for (std::size_t row = first; row < table.rows.size(); ++row) {
      if (!is_number(table.rows[row])) continue;
      values.insert(higher_is_better[column] ? -value_of(table.rows[row])
                                             : value_of(table.rows[row]));
    }
    if (values.size() < 2) continue;  // nothing stands out
    const double best = *values.begin(), second = *std::next(values.begin());
    for (std::size_t row = first; row < table.rows.size(); ++row) {
      if (!is_number(table.rows[row])) continue;
      const double value =
          higher_is_better[column] ? -value_of(table.rows[row]) : value_of(table.rows[row]);
      if (value == best) table.rows[row][table.text_columns + column].mark = Mark::kBest;
      if (value == second) table.rows[row][table.text_columns + column].mark = Mark::kSecond;
    }
  }
}

std::string count_of(std::size_t count, const char* noun) {
  return concat(count, " ", noun, count == 1 ? "" : "s");
}

std::vector<std::string> main_notes(const Evaluation& evaluation, const std::vector<Line>& lines) {
  std::vector<std::string> in_voxels;
  bool repairs_hd95 = false;
  for (const Line& line : lines) {
    const auto& name = line.convention->name;
    if (line.convention->unit == metrics::Unit::kVoxels &&
        std::find(in_voxels.begin(), in_voxels.end(), name) == in_voxels.end()) {
      in_voxels.push_back(name);
    }
    repairs_hd95 = repairs_hd95 || line.hd95 == "hd95_of_masks";
  }
  std::vector<std::string> notes = {
      concat("Mean over ", count_of(evaluation.cases.size(), "case"),
             " (nan left out, inf kept); Dice in %, HD95 in mm",
             in_voxels.empty() ? "" : concat(" (", join(in_voxels, ", "), ": voxels)"), ".")};
  if (repairs_hd95) {
    notes.emplace_back(
        "brats2024: HD95 of whole regions is hd95_of_masks; the script's own number is hd95 in "
        "cases.csv (see --explain).");
  }
  return notes;
}

// How nan, inf and cases without scores were treated.
void add_treatment_notes(const Evaluation& evaluation, const Analysis& analysis,
                         const std::vector<Line>& lines, std::vector<std::string>& notes) {
  for (const Summary& summary : analysis.summaries) {
    const bool is_shown = std::any_of(lines.begin(), lines.end(), [&](const Line& line) {
      return line.convention->name == summary.convention &&
             (line.dice == summary.metric || line.hd95 == summary.metric);
    });
    if (!is_shown) continue;
    const auto add = [&](std::int64_t count, const char* what, const char* treatment) {
      if (count == 0) return;
      notes.push_back(concat(summary.method, " ", summary.convention, " ", summary.metric, " ",
                             summary.region, ": ", count, " of ",
                             count_of(static_cast<std::size_t>(summary.cases), "case"), " ", what,
                             ", ", treatment));
    };
    add(summary.nan, "nan", "left out of mean, std and median");
    add(summary.inf, "inf", "kept: the mean is infinite");
  }
  for (const Method& method : evaluation.methods) {
    std::vector<std::string> names;
    for (const Row& row : evaluation.rows) {
      if (row.method == method.name && !row.scored &&
          (names.empty() || names.back() != row.case_name)) {
        names.push_back(row.case_name);
      }
    }
    if (names.empty()) continue;
    notes.push_back(concat(method.name, ": ", names.size(), " of ",
                           count_of(evaluation.cases.size(), "case"),
                           " not scored and left out of its means: ", listed(names)));
  }
}

const metrics::MetricRule* rule_of(const metrics::Convention& convention,
                                   const std::string& metric) {
  for (const metrics::MetricRule& rule : convention.metrics) {
    if (rule.name == metric) return &rule;
  }
  return nullptr;
}

int digits_of(const std::string& metric) { return shown_scale(metric) == 1 ? 3 : 2; }

std::string shown(double value, const std::string& metric) {
  return format_fixed(value * shown_scale(metric), digits_of(metric));
}

std::string shown_metric(const std::string& metric) {
  return shown_scale(metric) == 1 ? metric : metric + " (%)";
}

std::string escape_markdown(const std::string& text) {
  std::string out;
  for (const char letter : text) {
    if (letter == '|' || letter == '*' || letter == '_' || letter == '<' || letter == '\\' ||
        letter == '`') {
      out += '\\';
    }
    out += letter == '\n' || letter == '\r' ? ' ' : letter;
  }
  return out;
}

std::string escape_latex(const std::string& text) {
  std::string out;
  for (const char letter : text) {
    switch (letter) {
      case '\\':
        out += "\\textbackslash{}";
        break;
      case '~':
        out += "\\textasciitilde{}";
        break;
      case '^':
        out += "\\textasciicircum{}";
        break;
      case '<':
        out += "\\textless{}";
        break;
      case '>':
        out += "\\textgreater{}";
        break;
      case '&':
      case '%':
      case '$':
      case '#':
      case '_':
      case '{':
      case '}':
        out += '\\';
        out += letter;
        break;
      default:
        out += letter;
    }
  }
  return out;
}

// How a form of tables sets off the best and the second best.
struct MarkForm {
  const char *best_open, *best_close, *second_open, *second_close;
};

std::string marked(const std::string& text, Mark mark, const MarkForm& form) {
  if (mark == Mark::kBest) return concat(form.best_open, text, form.best_close);
  if (mark == Mark::kSecond) return concat(form.second_open, text, form.second_close);
  return text;
}

// Code points rather than bytes, so that names with accents keep the columns straight.
std::size_t width_of(const std::string& text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char letter) {
    return (static_cast<unsigned char>(letter) & 0xC0u) != 0x80u;
  }));
}

}  // namespace

double shown_scale(const std::string& metric) {
  return metric == "dice" || metric == "lesion_dice" || metric == "dice_ignore_empty_false"
             ? kPercent
             : 1;
}

std::string format_p(double p) {
  if (std::isnan(p)) return "nan";
  constexpr double kSmall = 0.001;
  char text[32];
  std::snprintf(text, sizeof text, p < kSmall ? "%.1e" : "%.3f", p);
  return text;
}

bool is_in_main_table(const Evaluation& evaluation, const std::string& convention,
                      const std::string& metric) {
  for (const Scope scope : {Scope::kRegions, Scope::kLesions}) {
    if (metric == dice_metric(evaluation, convention, scope) ||
        metric == hd95_metric(evaluation, convention, scope)) {
      return true;
    }
  }
  return false;
}

namespace {

Cells published_row(const PublishedScores::Method& method, const std::string& source,
                    const std::vector<std::string>& columns) {
  const auto shown_score = [](double score) {
    return std::isnan(score) ? std::string("-") : format_fixed(score, 2);
  };
  Cells row = {method.name, source};
  for (const auto& column : columns) {
    const auto found = method.scores.find(column);
    row.emplace_back(found == method.scores.end() ? "-" : shown_score(found->second.first));
    row.emplace_back(found == method.scores.end() ? "-" : shown_score(found->second.second));
  }
  return row;
}

}  // namespace

Table main_table(const Evaluation& evaluation, const Analysis& analysis) {
  const Summaries summaries(analysis);
  const std::vector<Line> lines = main_lines(evaluation);
  Table table;
  table.title = "Dice and HD95";
  table.text_columns = 2;
  table.group_column = 1;
  table.header = {"method", "convention"};
  std::vector<std::string> columns;
  for (const auto& region : evaluation.regions) columns.push_back(region.name);
  columns.emplace_back("avg");
  std::vector<bool> higher_is_better;
  for (const std::string& column : columns) {
    table.header.push_back(column + " Dice");
    table.header.push_back(column + " HD95");
    higher_is_better.insert(higher_is_better.end(), {true, false});
  }
  for (const Line& line : lines) {
    const std::size_t first = table.rows.size();
    for (const Method& method : evaluation.methods) {
      Cells row = {method.name, line.label()};
      std::vector<double> dice, hd95;
      for (const auto& region : evaluation.regions) {
        for (const auto& [metric, means] : {std::pair{&line.dice, &dice}, {&line.hd95, &hd95}}) {
          const Summary* summary =
              summaries.find(method.name, region.name, line.convention->name, *metric);
          if (summary != nullptr) means->push_back(summary->mean * shown_scale(*metric));
          row.emplace_back(summary == nullptr ? "-" : format_fixed(means->back(), 2));
        }
      }
      row.emplace_back(dice.empty() ? "-" : format_fixed(mean(dice), 2));
      row.emplace_back(hd95.empty() ? "-" : format_fixed(mean(hd95), 2));
      table.rows.push_back(std::move(row));
    }
    mark_best(table, first, higher_is_better);
  }
  if (table.empty()) return table;
  for (const PublishedScores& published : evaluation.published) {
    const std::size_t first = table.rows.size();
    for (const auto& method : published.methods) {
      table.rows.push_back(published_row(method, published.source, columns));
    }
    mark_best(table, first, higher_is_better);
  }
  table.notes = main_notes(evaluation, lines);
  for (const PublishedScores& published : evaluation.published) {
    table.notes.push_back(
        concat(published.source, ": numbers that were published, not measured here."));
  }
  add_treatment_notes(evaluation, analysis, lines, table.notes);
  return table;
}

Table other_metrics_table(const Evaluation& evaluation, const Analysis& analysis) {
  const Summaries summaries(analysis);
  Table table;
  table.title = "Other metrics, mean ± standard deviation over cases";
  table.text_columns = 3;
  table.header = {"method", "convention", "metric"};
  for (const auto& region : evaluation.regions) table.header.push_back(region.name);
  for (const metrics::Convention& convention : evaluation.conventions) {
    for (const metrics::MetricRule& rule : convention.metrics) {
      if (is_in_main_table(evaluation, convention.name, rule.name) ||
          !summaries.has(evaluation, convention.name, rule.name)) {
        continue;
      }
      for (const Method& method : evaluation.methods) {
        Cells row = {method.name, convention.name, shown_metric(rule.name)};
        for (const auto& region : evaluation.regions) {
          const Summary* summary =
              summaries.find(method.name, region.name, convention.name, rule.name);
          row.emplace_back(
              concat(shown(summary->mean, rule.name), " ± ", shown(summary->std, rule.name)));
        }
        table.rows.push_back(std::move(row));
      }
    }
  }
  return table;
}

Table spread_table(const Evaluation& evaluation, const Analysis& analysis) {
  Table table;
  table.title = "Spread over cases";
  table.text_columns = 4;
  table.header = {"method", "convention", "metric", "region", "n",   "mean", "95% interval",
                  "std",    "median",     "q25",    "q75",    "min", "max"};
  for (const Summary& summary : analysis.summaries) {
    if (!is_in_main_table(evaluation, summary.convention, summary.metric)) continue;
    const auto number = [&](double value) { return shown(value, summary.metric); };
    table.rows.push_back(
        {summary.method, summary.convention, shown_metric(summary.metric), summary.region,
         std::to_string(summary.cases - summary.nan), number(summary.mean),
         concat(number(summary.mean_ci95.low), " to ", number(summary.mean_ci95.high)),
         number(summary.std), number(summary.median), number(summary.q25), number(summary.q75),
         number(summary.min), number(summary.max)});
  }
  table.notes = {concat("95% interval of the mean: percentile bootstrap over cases, ",
                        analysis.options.resamples, " resamples, seed ", analysis.options.seed,
                        ". std: of the population (n, not n - 1). Quartiles: linear between "
                        "ranks.")};
  return table;
}

Table comparison_table(const Evaluation& evaluation, const Analysis& analysis) {
  constexpr double kSignificant = 0.05;
  Table table;
  table.title = "Comparisons between methods";
  table.text_columns = 4;
  table.header = {"methods",         "convention",   "metric", "region",   "pairs",
                  "mean difference", "95% interval", "p",      "p (Holm)", ""};
  for (const Comparison& comparison : analysis.comparisons) {
    const auto convention =
        std::find_if(evaluation.conventions.begin(), evaluation.conventions.end(),
                     [&](const auto& item) { return item.name == comparison.convention; });
    if (!is_in_main_table(evaluation, comparison.convention, comparison.metric)) continue;
    const metrics::MetricRule* rule = rule_of(*convention, comparison.metric);
    const bool higher = metrics::better(rule->quantity) == metrics::Better::kHigher;
    std::string verdict;
    if (comparison.p_holm < kSignificant) {
      // By what was tested: the larger rank sum, which outliers do not turn as they do the mean.
      const bool a_is_larger = comparison.test.positive_ranks > comparison.test.statistic;
      const bool a_is_better = a_is_larger == higher;
      verdict = concat(a_is_better ? comparison.method_a : comparison.method_b, " better");
    }
    const auto number = [&](double value) { return shown(value, comparison.metric); };
    table.rows.push_back({concat(comparison.method_a, " - ", comparison.method_b),
                          comparison.convention, shown_metric(comparison.metric), comparison.region,
                          std::to_string(comparison.pairs), number(comparison.mean_difference),
                          concat(number(comparison.difference_ci95.low), " to ",
                                 number(comparison.difference_ci95.high)),
                          format_p(comparison.test.p), format_p(comparison.p_holm), verdict});
  }
  table.notes = {
      "p: Wilcoxon signed-rank test, two-sided, over the cases that both methods have; Holm's "
      "correction over the pairs of methods and the regions of one convention and metric. "
      "\"better\": p (Holm) below 0.05, in the direction of the larger rank sum, which few extreme "
      "cases do not turn as they may the mean."};
  return table;
}

Table leaderboard_table(const Analysis& analysis) {
  Table table;
  table.title = "Leaderboard";
  table.text_columns = 2;
  table.group_column = 0;
  table.header = {"convention", "method", "mean rank", "Dice", "HD95"};
  for (const Standing& standing : analysis.leaderboard) {
    table.rows.push_back({standing.convention, standing.method, format_fixed(standing.mean_rank, 2),
                          format_fixed(kPercent * standing.mean_dice, 2),
                          format_fixed(standing.mean_hd95, 2)});
  }
  table.notes = {
      "Mean rank: methods ranked for every case, region, Dice and HD95 (of lesions where the "
      "convention scores them), as in the BraTS challenges; a nan or a case that is not scored "
      "ranks last."};
  return table;
}

Table worst_table(const Analysis& analysis) {
  Table table;
  table.title = "Worst cases";
  table.text_columns = 3;
  table.header = {"method", "convention", "case", "mean Dice"};
  for (const WorstCase& worst : analysis.worst) {
    table.rows.push_back(
        {worst.method, worst.convention, worst.case_name, shown(worst.value, worst.metric)});
  }
  table.notes = {
      "By the mean over regions of Dice (of lesion-wise Dice where the convention has it)."};
  return table;
}

Table problem_table(const Evaluation& evaluation) {
  Table table;
  table.title = "Problems of the input";
  table.text_columns = 5;
  table.header = {"method", "case", "problem", "scored", "what"};
  for (const Problem& problem : evaluation.problems) {
    table.rows.push_back({problem.method.empty() ? "(reference)" : problem.method,
                          problem.case_name, to_string(problem.kind),
                          problem.prevents_scoring ? "no" : "yes", problem.text});
  }
  return table;
}

std::string to_text(const Table& table) {
  if (table.empty()) return "";
  std::vector<std::size_t> widths;
  for (std::size_t column = 0; column < table.header.size(); ++column) {
    std::size_t width = width_of(table.header[column]);
    for (const Cells& row : table.rows) width = std::max(width, width_of(row[column].text));
    widths.push_back(width);
  }
  std::string text;
  const auto add_line = [&](const auto& cells, const auto& text_of) {
    std::string line;
    for (std::size_t column = 0; column < widths.size(); ++column) {
      const std::string& cell = text_of(cells[column]);
      const std::string padding(widths[column] - width_of(cell), ' ');
      const bool is_text = column < table.text_columns;
      line += concat(column > 0 ? "  " : "", is_text ? "" : padding, cell, is_text ? padding : "");
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  };
  add_line(table.header, [](const std::string& cell) -> const std::string& { return cell; });
  for (const Cells& row : table.rows) {
    add_line(row, [](const Cell& cell) -> const std::string& { return cell.text; });
  }
  for (const std::string& note : table.notes) text += note + "\n";
  return text;
}

std::string to_markdown(const Table& table) {
  if (table.empty()) return "";
  std::vector<std::string> header, rule;
  for (std::size_t column = 0; column < table.header.size(); ++column) {
    header.push_back(escape_markdown(table.header[column]));
    rule.emplace_back(column < table.text_columns ? "---" : "---:");
  }
  const auto line = [](const auto& cells) { return concat("| ", join(cells, " | "), " |\n"); };
  std::string text = concat("## ", table.title, "\n\n", line(header), line(rule));
  for (const Cells& row : table.rows) {
    std::vector<std::string> cells;
    for (const Cell& cell : row) {
      const std::string plain = escape_markdown(cell.text);
      cells.push_back(marked(plain, cell.mark, {"**", "**", "<u>", "</u>"}));
    }
    text += line(cells);
  }
  text += '\n';
  for (const std::string& note : table.notes) text += concat("- ", escape_markdown(note), "\n");
  if (!table.notes.empty()) text += '\n';
  return text;
}

std::string to_html(const Table& table) {
  if (table.empty()) return "";
  std::string text = "<div class=\"scroll\"><table>\n<thead><tr>";
  const auto tag = [&](const char* name, std::size_t column, const std::string& content) {
    return concat("<", name, column < table.text_columns ? "" : " class=\"number\"", ">", content,
                  "</", name, ">");
  };
  for (std::size_t column = 0; column < table.header.size(); ++column) {
    text += tag("th", column, escape_html(table.header[column]));
  }
  text += "</tr></thead>\n<tbody>\n";
  for (std::size_t place = 0; place < table.rows.size(); ++place) {
    const Cells& row = table.rows[place];
    const bool starts_group =
        place > 0 && table.group_column < row.size() &&
        table.rows[place - 1][table.group_column].text != row[table.group_column].text;
    text += starts_group ? "<tr class=\"group\">" : "<tr>";
    for (std::size_t column = 0; column < row.size(); ++column) {
      const std::string plain = escape_html(row[column].text);
      text += tag("td", column, marked(plain, row[column].mark, {"<b>", "</b>", "<u>", "</u>"}));
    }
    text += "</tr>\n";
  }
  text += "</tbody></table></div>\n";
  for (const std::string& note : table.notes) {
    text += concat("<p class=\"note\">", escape_html(note), "</p>\n");
  }
  return text;
}

std::string main_table_latex(const Evaluation& evaluation, const Analysis& analysis) {
  const Table table = main_table(evaluation, analysis);
  // One convention needs no column of its own, as in the paper.
  const bool names_conventions =
      std::any_of(table.rows.begin(), table.rows.end(),
                  [&](const Cells& row) { return row[1].text != table.rows.front()[1].text; });
  const std::size_t text_columns = names_conventions ? 2 : 1;
  std::string caption = "Segmentation scores";
  if (!names_conventions && !table.empty()) {
    caption += concat(" by the convention ", escape_latex(table.rows.front()[1].text));
  }
  caption += '.';
  for (const std::string& note : table.notes) {
    caption += concat(" ", escape_latex(note), note.back() == '.' ? "" : ".");
  }
  const std::size_t groups = evaluation.regions.size() + 1;
  std::string text =
      concat("% needs \\usepackage{booktabs}\n\\begin{table}\n  \\centering\\small\n",
             "  \\setlength{\\tabcolsep}{4pt}\n  \\caption{", caption, "}\n", "  \\begin{tabular}{",
             std::string(text_columns, 'l'), std::string(2 * groups, 'r'), "}\n    \\toprule\n");
  text += names_conventions ? "    Method & Convention" : "    Method";
  for (const auto& region : evaluation.regions) {
    text += concat(" & \\multicolumn{2}{c}{", escape_latex(region.name), "}");
  }
  text += " & \\multicolumn{2}{c}{Avg} \\\\\n    ";
  for (std::size_t group = 0; group < groups; ++group) {
    const std::size_t first = text_columns + 1 + 2 * group;
    text += concat("\\cmidrule(lr){", first, "-", first + 1, "}");
  }
  text += names_conventions ? "\n    & " : "\n    ";
  for (std::size_t group = 0; group < groups; ++group) {
    text += " & Dice$\\uparrow$ & HD95$\\downarrow$";
  }
  text += " \\\\\n    \\midrule\n";
  std::string convention;
  for (const Cells& row : table.rows) {
    if (!convention.empty() && convention != row[1].text) text += "    \\midrule\n";
    convention = row[1].text;
    std::vector<std::string> cells;
    for (std::size_t column = 0; column < row.size(); ++column) {
      if (column == 1 && !names_conventions) continue;
      cells.push_back(marked(escape_latex(row[column].text), row[column].mark,
                             {"\\textbf{", "}", "\\underline{", "}"}));
    }
    text += concat("    ", join(cells, " & "), " \\\\\n");
  }
  return text + "    \\bottomrule\n  \\end{tabular}\n\\end{table}\n";
}

}  // namespace segmamba::eval
