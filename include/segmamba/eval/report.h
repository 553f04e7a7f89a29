#pragma once
// What an evaluation leaves behind: a table to read, CSV and JSON to compute with.

#include <filesystem>
#include <string>

#include "segmamba/core/json.h"
#include "segmamba/eval/evaluate.h"

namespace segmamba::eval {

// "method,case,region,convention,metric,value", one row a line; 17 significant digits, "nan", "inf"
// and "-inf"; fields with commas or quotes are quoted (RFC 4180).
std::string cases_csv(const Evaluation& evaluation);

// Per method, convention, region and metric: mean, std, median, number of cases, how many were nan
// or inf and what that meant.
Json summary_json(const Evaluation& evaluation);

// Dice in percent and HD95 of each region and their average, a line for each method and convention,
// as in Table 1 of the paper. Lesion-wise conventions have a second line.
std::string table_text(const Evaluation& evaluation);
std::string table_markdown(const Evaluation& evaluation);

// cases.csv, summary.json and table.md in `folder`, each written atomically.
void write_reports(const Evaluation& evaluation, const std::filesystem::path& folder);

}  // namespace segmamba::eval
