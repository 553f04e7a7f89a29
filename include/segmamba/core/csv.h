#pragma once
// Tables of comma-separated values (RFC 4180), with the line of every row.

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace segmamba {

struct CsvRow {
  std::int64_t line = 0;            // of the file, from 1; where the row begins
  std::vector<std::string> fields;  // one a column
};

struct CsvTable {
  std::string origin;  // for messages: the file
  CsvRow header;
  std::vector<CsvRow> rows;

  // "cases.csv:12", to begin a message about a row with.
  std::string place(const CsvRow& row) const;
};

// Fields may be quoted, with "" for a quote, and then hold commas and line breaks; blanks around
// fields that are not quoted are dropped. A byte order mark, CRLF and empty lines are passed over.
// Throws Error "ORIGIN:LINE: ..." where there is no header, a column has no name or that of
// another, a row has not as many fields as the header, or a quote stands where none may.
CsvTable parse_csv(const std::string& text, const std::string& origin);
CsvTable read_csv(const std::filesystem::path& path);

// One row of a table with its line break: fields are quoted where they would not read back else.
std::string csv_line(const std::vector<std::string>& fields);

}  // namespace segmamba
