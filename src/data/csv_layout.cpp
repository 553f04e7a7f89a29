// A table with a row a case.
#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "layouts.h"
#include "segmamba/core/csv.h"
#include "segmamba/core/error.h"
#include "segmamba/core/text.h"

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

}  // namespace

void list_csv(const LayoutJob& job) {
  job.survey.dataset.class_map = assume_classes(job.config.classes, job.mapped);
  const CsvTable table = read_csv(job.root);
  const auto name_column = find_column(table, {"case", "name"});
  if (!name_column) {
    throw Error(concat(table.place(table.header), ": has no column 'case'; its columns are ",
                       join(table.header.fields, ", ")));
  }
  const auto patient_column = find_column(table, {"patient"});
  const auto labels_column = find_column(table, {"labels", "label", "seg", "segmentation", "mask"});
  if (!labels_column && job.labels == Labels::kRequired) {
    throw Error(concat(table.place(table.header), ": has no column 'labels'; its columns are ",
                       join(table.header.fields, ", ")));
  }
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

  std::map<std::string, std::int64_t> lines;
  for (const auto& row : table.rows) {
    Case item;
    item.name = row.fields[*name_column];
    if (item.name.empty()) throw Error(concat(table.place(row), ": the case has no name"));
    const auto [first, is_new] = lines.emplace(item.name, row.line);
    if (!is_new) {
      throw Error(concat(table.place(row), ": the case '", item.name, "' stands in line ",
                         first->second, " already"));
    }
    item.patient = patient_column ? row.fields[*patient_column] : "";
    if (item.patient.empty()) item.patient = patient_of(item.name);
    const auto path_of = [&](std::size_t column) -> fs::path {
      const std::string& field = row.fields[column];
      return field.empty() ? fs::path() : (job.root.parent_path() / field).lexically_normal();
    };
    for (std::size_t channel = 0; channel < channels.size(); ++channel) {
      item.images.push_back({path_of(places[channels[channel]])});
      if (item.images.back().path.empty()) {
        job.add_missing(item.name,
                        concat(table.place(row), ": no file for ", job.config.channels[channel]));
      }
    }
    if (labels_column) item.labels = path_of(*labels_column);
    if (item.labels.empty() && job.labels == Labels::kRequired) {
      job.add_missing(item.name, concat(table.place(row), ": no file for the labels"));
    }
    job.require_files(item);
    job.survey.dataset.cases.push_back(std::move(item));
  }
  if (table.rows.empty()) job.add_missing("", concat(table.origin, ": has no rows but its header"));
}

}  // namespace segmamba::data
