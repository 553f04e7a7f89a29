#include "segmamba/eval/report.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <map>

#include "listed.h"
#include "segmamba/core/files.h"
#include "segmamba/core/text.h"
#include "segmamba/core/version.h"

namespace segmamba::eval {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

std::string csv_number(double value) {
  if (!std::isfinite(value)) return format_double(value);
  char text[32];
  std::snprintf(text, sizeof text, "%.17g", value);
  return text;
}

std::string csv_field(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char letter : text) {
    if (letter == '"') quoted += '"';
    quoted += letter;
  }
  return quoted + '"';
}

using Cells = std::vector<std::string>;

// The numbers of Table 1, as text: for each method and convention Dice and HD95 of the regions and
// their average.
struct Table {
  Cells header;
  std::vector<Cells> rows;
  Cells notes;
};

constexpr const char* kTreatmentOfNan = "left out of mean, std and median";
constexpr const char* kTreatmentOfInf = "kept: the mean is infinite";

double average(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return values.empty() ? kNan : sum / static_cast<double>(values.size());
}

class TableMaker {
 public:
  explicit TableMaker(const Evaluation& evaluation) : evaluation_(evaluation) {
    for (Summary& summary : summarise(evaluation.rows)) {
      summaries_[key(summary.method, summary.convention, summary.region, summary.metric)] = summary;
    }
  }

  Table make() {
    table_.header = {"method", "convention"};
    for (const char* name : {"Dice ", "HD95 "}) {
      for (const auto& region : evaluation_.regions) table_.header.push_back(name + region.name);
      table_.header.push_back(concat(name, "avg"));
    }
    for (const Method& method : evaluation_.methods) {
      for (const auto& convention : evaluation_.conventions) {
        add_row(method.name, convention.name, "", "dice", "hd95");
        add_row(method.name, convention.name, " lesion-wise", "lesion_dice", "lesion_hd95");
      }
    }
    add_notes();
    return std::move(table_);
  }

 private:
  static std::string key(const std::string& method, const std::string& convention,
                         const std::string& region, const std::string& metric) {
    return concat(method, '\n', convention, '\n', region, '\n', metric);
  }

  // Adds the means of one metric to `cells`; false where the convention does not have it.
  bool add_metric(Cells& cells, const std::string& method, const std::string& convention,
                  const std::string& metric, double scale) {
    std::vector<double> means;
    for (const auto& region : evaluation_.regions) {
      const auto found = summaries_.find(key(method, convention, region.name, metric));
      if (found == summaries_.end()) {
        cells.insert(cells.end(), evaluation_.regions.size() + 1, "-");
        return false;
      }
      const Summary& summary = found->second;
      means.push_back(scale * summary.mean);
      cells.push_back(format_fixed(means.back(), 2));
      note(summary, summary.nan, "nan", kTreatmentOfNan);
      note(summary, summary.inf, "inf", kTreatmentOfInf);
    }
    cells.push_back(format_fixed(average(means), 2));
    return true;
  }

  void add_row(const std::string& method, const std::string& convention, const std::string& suffix,
               const std::string& dice, const std::string& hd95) {
    constexpr double kPercent = 100;
    Cells cells = {method, convention + suffix};
    const bool has_dice = add_metric(cells, method, convention, dice, kPercent);
    const bool has_hd95 = add_metric(cells, method, convention, hd95, 1);
    if (has_dice || has_hd95) table_.rows.push_back(std::move(cells));
  }

  void note(const Summary& summary, std::int64_t count, const char* what, const char* treatment) {
    if (count == 0) return;
    table_.notes.push_back(concat(summary.method, " ", summary.convention, " ", summary.metric, " ",
                                  summary.region, ": ", count, " of ", summary.cases, " cases ",
                                  what, ", ", treatment));
  }

  void add_notes() {
    Cells in_voxels;
    for (const auto& convention : evaluation_.conventions) {
      if (convention.unit == metrics::Unit::kVoxels) in_voxels.push_back(convention.name);
    }
    Cells notes = {
        concat("Mean over ", evaluation_.cases.size(),
               evaluation_.cases.size() == 1 ? " case" : " cases", "; Dice in %, HD95 in mm",
               in_voxels.empty() ? "" : concat(" (", join(in_voxels, ", "), ": voxels)"), ".")};
    notes.insert(notes.end(), table_.notes.begin(), table_.notes.end());
    if (!evaluation_.missing.empty()) {
      notes.push_back(
          concat(evaluation_.missing.size(),
                 " cases without a prediction are left out: ", listed(evaluation_.missing)));
    }
    table_.notes = std::move(notes);
  }

  const Evaluation& evaluation_;
  std::map<std::string, Summary> summaries_;
  Table table_;
};

Json names(const std::vector<std::string>& list) {
  Json json = Json::array();
  for (const std::string& name : list) json.push_back(name);
  return json;
}

}  // namespace

std::string cases_csv(const Evaluation& evaluation) {
  std::string text = "method,case,region,convention,metric,value\n";
  for (const Row& row : evaluation.rows) {
    for (const auto* field :
         {&row.method, &row.case_name, &row.region, &row.convention, &row.metric}) {
      text += csv_field(*field);
      text += ',';
    }
    text += csv_number(row.value);
    text += '\n';
  }
  return text;
}

Json summary_json(const Evaluation& evaluation) {
  Json json;
  json["program"] = "segmamba-eval " + version();
  json["methods"] = Json::object();
  for (const Method& method : evaluation.methods) {
    json["methods"][method.name] = method.predictions.string();
  }
  json["cases"] = evaluation.cases.size();
  json["missing"] = names(evaluation.missing);
  json["without_reference"] = names(evaluation.without_reference);
  json["notices"] = names(evaluation.notices);
  json["nan"] = kTreatmentOfNan;
  json["inf"] = kTreatmentOfInf;
  json["std"] = "of the population (n, not n - 1)";
  Json list = Json::array();
  for (const Summary& summary : summarise(evaluation.rows)) {
    Json item;
    item["method"] = summary.method;
    item["convention"] = summary.convention;
    item["region"] = summary.region;
    item["metric"] = summary.metric;
    item["mean"] = json_number(summary.mean);
    item["std"] = json_number(summary.std);
    item["median"] = json_number(summary.median);
    item["n"] = summary.cases - summary.nan;
    item["nan"] = summary.nan;
    item["inf"] = summary.inf;
    list.push_back(std::move(item));
  }
  json["summary"] = std::move(list);
  return json;
}

std::string table_text(const Evaluation& evaluation) {
  const Table table = TableMaker(evaluation).make();
  constexpr std::size_t kTextColumns = 2;  // flush left
  std::vector<std::size_t> widths;
  for (std::size_t column = 0; column < table.header.size(); ++column) {
    std::size_t width = table.header[column].size();
    for (const Cells& row : table.rows) width = std::max(width, row[column].size());
    widths.push_back(width);
  }
  std::string text;
  const auto add_line = [&](const Cells& cells) {
    for (std::size_t column = 0; column < cells.size(); ++column) {
      const std::string padding(widths[column] - cells[column].size(), ' ');
      const bool is_text = column < kTextColumns;
      text += concat(column > 0 ? "  " : "", is_text ? "" : padding, cells[column],
                     is_text ? padding : "");
    }
    text += '\n';
  };
  add_line(table.header);
  for (const Cells& row : table.rows) add_line(row);
  for (const std::string& note : table.notes) text += note + "\n";
  return text;
}

std::string table_markdown(const Evaluation& evaluation) {
  const Table table = TableMaker(evaluation).make();
  const auto line = [](const Cells& cells) { return concat("| ", join(cells, " | "), " |\n"); };
  Cells rule = {"---", "---"};
  rule.resize(table.header.size(), "---:");
  std::string text = line(table.header) + line(rule);
  for (const Cells& row : table.rows) text += line(row);
  text += '\n';
  for (const std::string& note : table.notes) text += concat("- ", note, "\n");
  return text;
}

void write_reports(const Evaluation& evaluation, const std::filesystem::path& folder) {
  make_folders(folder);
  remove_stale_temporaries(folder);
  write_file_atomically(folder / "cases.csv", cases_csv(evaluation));
  write_json(folder / "summary.json", summary_json(evaluation));
  write_file_atomically(folder / "table.md", table_markdown(evaluation));
}

}  // namespace segmamba::eval
