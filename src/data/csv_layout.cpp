// A table with a row a case.
#include <algorithm>
#include <map>
#include <optional>
#include <utility>

#include "layouts.h"
#include "segmamba/core/csv.h"
#include "segmamba/core/error.h"
#include "segmamba/core/files.h"
#include "segmamba/core/text.h"
#include "segmamba/data/case_table.h"

namespace segmamba::data {
namespace {

namespace fs = std::filesystem;

std::optional<std::size_t> find_column(const CsvTable& table,
                                       const std::vector<std::string>& names) {
  const auto& header = table.header.fields;
  std::optional<std::size_t> found;
  for (std::size_t column = 0; column < header.size(); ++column) {
    if (std::find(names.begin(), names.end(), to_lower(header[column])) == names.end()) continue;
    if (found) {
      throw Error(concat(table.place(table.header), ": both '", header[*found], "' and '",
                         header[column], "' may be the column '", names.front(), "'"));
    }
    found = column;
  }
  return found;
}

// Of the columns that every table needs, the first name is the one to ask for.
std::size_t require_column(const CsvTable& table, const std::vector<std::string>& names) {
  if (const auto found = find_column(table, names)) return *found;
  throw Error(concat(table.place(table.header), ": has no column '", names.front(),
                     "'; its columns are ", join(table.header.fields, ", ")));
}

const std::vector<std::string> kNameColumns = {"case", "name"};
const std::vector<std::string> kLabelColumns = {"labels", "label", "seg", "segmentation", "mask"};

// Throws where a case has no name, or stands in a line before; `lines` holds those so far.
std::string name_of(const CsvTable& table, const CsvRow& row, std::size_t column,
                    std::map<std::string, std::int64_t>& lines) {
  const std::string& name = row.fields[column];
  if (name.empty()) throw Error(concat(table.place(row), ": the case has no name"));
  const auto [first, is_new] = lines.emplace(name, row.line);
  if (!is_new) {
    throw Error(concat(table.place(row), ": the case '", name, "' stands in line ", first->second,
                       " already"));
  }
  return name;
}

// Paths are relative to the table's folder; "" for an empty field.
fs::path path_of(const fs::path& folder, const CsvTable& table, const CsvRow& row,
                 std::size_t column) {
  const std::string& field = row.fields[column];
  if (field.size() > kLongestPath) {
    throw Error(concat(table.place(row), ": a path of ", field.size(), " bytes in column '",
                       table.header.fields[column], "'; ", kLongestPath, " are possible"));
  }
  return field.empty() ? fs::path() : listed_path(folder, field);
}

// The table and the bytes of its text.
std::pair<CsvTable, std::size_t> read_list(const fs::path& path) {
  const std::string text = read_file(path);
  return {parse_csv(text, path.string()), text.size()};
}

}  // namespace

std::map<std::string, fs::path> labels_of_table(const fs::path& path) {
  CsvTable table = read_csv(path);
  const auto folder = path.parent_path();
  const auto name_column = require_column(table, kNameColumns);
  const auto labels_column = require_column(table, kLabelColumns);
  std::map<std::string, std::int64_t> lines;
  std::map<std::string, fs::path> labels;
  for (auto& row : table.rows) {
    const auto name = name_of(table, row, name_column, lines);
    auto file = path_of(folder, table, row, labels_column);
    if (!file.empty()) labels[name] = std::move(file);
    row = {};  // there is no need to hold a long table twice
  }
  return labels;
}

void list_csv(const LayoutJob& job) {
  job.survey.dataset.class_map = assume_classes(job.config.classes, job.mapped);
  auto [table, bytes] = read_list(job.root);
  const auto folder = job.root.parent_path();
  const std::optional name_column = require_column(table, kNameColumns);
  const auto patient_column = find_column(table, {"patient"});
  const auto labels_column = job.labels == Labels::kRequired
                                 ? std::optional(require_column(table, kLabelColumns))
                                 : find_column(table, kLabelColumns);
  // Columns that may be channels, at their places in the table.
  std::vector<std::string> columns = table.header.fields;
  for (const auto& other : {name_column, patient_column, labels_column}) {
    if (other) columns[*other].clear();
  }
  std::vector<std::size_t> places;
  std::vector<std::string> names;
  for (std::size_t column = 0; column < columns.size(); ++column) {
    if (columns[column].empty()) continue;
    places.push_back(column);
    names.push_back(columns[column]);
  }
  const auto channels = match_channels(job.config.channels, names, table.place(table.header));

  FileCount files(table.origin, bytes);
  auto& cases = job.survey.dataset.cases;
  // While a long list grows, it is there twice; of what is no list there may be more rows.
  cases.reserve(std::min(table.rows.size(), files.most()));
  std::map<std::string, std::int64_t> lines;
  for (auto& row : table.rows) {
    Case item;
    item.name = name_of(table, row, *name_column, lines);
    check_case_name(item.name, table.place(row));
    item.patient = patient_column ? row.fields[*patient_column] : "";
    if (item.patient.empty()) item.patient = patient_of(item.name);
    item.images.reserve(channels.size());
    for (std::size_t channel = 0; channel < channels.size(); ++channel) {
      item.images.push_back({path_of(folder, table, row, places[channels[channel]])});
      if (item.images.back().path.empty()) {
        job.add_missing(item.name,
                        concat(table.place(row), ": no file for ", job.config.channels[channel]));
      }
    }
    if (labels_column) item.labels = path_of(folder, table, row, *labels_column);
    if (item.labels.empty() && job.labels == Labels::kRequired) {
      job.add_missing(item.name, concat(table.place(row), ": no file for the labels"));
    }
    job.require_files(item);
    files.add(item);
    cases.push_back(std::move(item));
    row = {};  // there is no need to hold a long table twice
  }
  if (table.rows.empty()) job.add_missing("", concat(table.origin, ": has no rows but its header"));
}

}  // namespace segmamba::data
