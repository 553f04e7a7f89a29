#pragma once
// What an evaluation leaves behind: tables to read, CSV and JSON to compute with, a page to browse.

#include <filesystem>
#include <string>

#include "segmamba/core/json.h"
#include "segmamba/eval/analysis.h"
#include "segmamba/eval/evaluate.h"

namespace segmamba::eval {

// "method,case,region,convention,metric,value", one row a line; 17 significant digits, "nan", "inf"
// and "-inf"; fields with commas or quotes are quoted (RFC 4180). Cases that could not be scored
// have rows of nan.
std::string cases_csv(const Evaluation& evaluation);

// "kind,method,case,scored,text", one problem a line; method is empty for the reference.
std::string problems_csv(const Evaluation& evaluation);

// Settings, problems, all of Analysis, and how nan and inf were treated.
Json summary_json(const Evaluation& evaluation, const Analysis& analysis);

// In the shape of Table 1 of the paper: Dice in percent and HD95 of each region and of their
// average, a line for each convention and method; lesion-wise conventions have a second line. What
// follows is short in the text (comparisons of several methods, worst cases) and whole in Markdown.
std::string table_text(const Evaluation& evaluation, const Analysis& analysis);
std::string table_markdown(const Evaluation& evaluation, const Analysis& analysis);
// A complete `table` environment; needs booktabs. Best bold, second underlined.
std::string table_latex(const Evaluation& evaluation, const Analysis& analysis);
// One self-contained page: no network, no other files.
std::string report_html(const Evaluation& evaluation, const Analysis& analysis);

// cases.csv, summary.json, table.md and table.tex in `folder`, problems.csv where there are any and
// report.html where `html` is set, each written atomically. All files of these names that an
// earlier evaluation left there are removed first: whatever happens, the folder holds files of one
// alone.
void write_reports(const Evaluation& evaluation, const Analysis& analysis,
                   const std::filesystem::path& folder, bool html = true);

// True where `folder` holds a file that write_reports writes, unless it was cut off there.
bool holds_reports(const std::filesystem::path& folder);

}  // namespace segmamba::eval
