#include "segmamba/core/csv.h"

#include <algorithm>
#include <set>
#include <string_view>

#include "segmamba/core/error.h"
#include "segmamba/core/files.h"
#include "segmamba/core/text.h"

namespace segmamba {
namespace {

constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";

class Parser {
 public:
  Parser(std::string_view text, const std::string& origin) : text_(text), origin_(origin) {
    if (text_.starts_with(kByteOrderMark)) text_.remove_prefix(kByteOrderMark.size());
  }

  // False at the end of the text.
  bool next(CsvRow& row) {
    while (take_line_end()) {
    }
    if (at_end()) return false;
    row = {.line = line_, .fields = {}};
    do {
      row.fields.push_back(field());
    } while (take(','));
    if (!at_end() && !take_line_end()) fail("a quoted field goes on after its closing quote");
    return true;
  }

  [[noreturn]] void fail(const std::string& what) const {
    throw Error(concat(origin_, ":", line_, ": ", what));
  }

 private:
  bool at_end() const { return position_ == text_.size(); }
  bool take(char letter) {
    if (at_end() || text_[position_] != letter) return false;
    ++position_;
    return true;
  }
  // LF, CRLF, or a line of blanks with its end.
  bool take_line_end() {
    std::size_t end = position_;
    while (end < text_.size() && (text_[end] == ' ' || text_[end] == '\t')) ++end;
    if (text_.substr(end, 2) == "\r\n") {
      position_ = end + 2;
    } else if (end < text_.size() && text_[end] == '\n') {
      position_ = end + 1;
    } else {
      if (end == text_.size()) position_ = end;
      return false;
    }
    ++line_;
    return true;
  }

  std::string field() {
    while (!at_end() && (text_[position_] == ' ' || text_[position_] == '\t')) ++position_;
    if (take('"')) return quoted();
    const std::size_t end = std::min(text_.find_first_of(",\n", position_), text_.size());
    const std::string_view plain = text_.substr(position_, end - position_);
    if (plain.find('"') != std::string_view::npos) {
      fail("a quote within a field that is not quoted as a whole");
    }
    position_ = end;
    // The line break of CRLF is left to take_line_end.
    if (!at_end() && text_[end] == '\n' && plain.ends_with('\r')) --position_;
    return trim(plain);
  }

  std::string quoted() {
    const std::int64_t begin = line_;
    std::string content;
    while (!at_end()) {
      const char letter = text_[position_++];
      if (letter == '"' && !take('"')) {
        while (take(' ') || take('\t')) {
        }
        return content;
      }
      if (letter == '\n') ++line_;
      content += letter;
    }
    line_ = begin;
    fail("a quoted field has no end");
  }

  std::string_view text_;
  std::string origin_;
  std::size_t position_ = 0;
  std::int64_t line_ = 1;
};

}  // namespace

std::string CsvTable::place(const CsvRow& row) const { return concat(origin, ":", row.line); }

CsvTable parse_csv(const std::string& text, const std::string& origin) {
  Parser parser(text, origin);
  CsvTable table;
  table.origin = origin;
  if (!parser.next(table.header)) throw Error(concat(origin, ": is empty; a header row is needed"));
  const auto& names = table.header.fields;
  if (names.size() == 1 && names.front().find_first_of(";\t") != std::string::npos) {
    throw Error(concat(table.place(table.header), ": columns must be separated by commas"));
  }
  std::set<std::string_view> seen;
  for (const auto& name : names) {
    if (name.empty()) throw Error(concat(table.place(table.header), ": a column has no name"));
    if (!seen.insert(name).second) {
      throw Error(concat(table.place(table.header), ": there are two columns '", name, "'"));
    }
  }
  for (CsvRow row; parser.next(row);) {
    if (row.fields.size() != names.size()) {
      throw Error(concat(table.place(row), ": has ", row.fields.size(),
                         " fields where the header has ", names.size()));
    }
    table.rows.push_back(std::move(row));
  }
  return table;
}

CsvTable read_csv(const std::filesystem::path& path) {
  return parse_csv(read_file(path), path.string());
}

std::string csv_line(const std::vector<std::string>& fields) {
  std::string line;
  for (const auto& field : fields) {
    if (&field != &fields.front()) line += ',';
    const bool is_plain = field.find_first_of(",\"\r\n") == std::string::npos &&
                          trim(field) == field && !field.starts_with(kByteOrderMark);
    if (is_plain) {
      line += field;
      continue;
    }
    line += '"';
    for (const char letter : field) line.append(letter == '"' ? 2 : 1, letter);
    line += '"';
  }
  return line + '\n';
}

}  // namespace segmamba
