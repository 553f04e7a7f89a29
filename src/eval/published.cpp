#include "segmamba/eval/published.h"

#include <charconv>
#include <cmath>
#include <limits>

#include "segmamba/core/csv.h"
#include "segmamba/core/error.h"
#include "segmamba/core/text.h"

namespace segmamba::eval {
namespace {

// A table has some dozen fields. Each takes a hundred bytes, and the name of its region.
constexpr std::size_t kMostFields = 100'000, kLongestRegion = 200;

struct Column {
  std::string region;
  bool is_dice = false;
};

Column parse_column(const CsvTable& table, const std::string& name) {
  for (const bool is_dice : {true, false}) {
    const std::string end = is_dice ? " Dice" : " HD95";
    if (!ends_with(name, end) || name.size() == end.size()) continue;
    const std::size_t bytes = name.size() - end.size();
    if (bytes > kLongestRegion) {
      throw Error(concat(table.place(table.header), ": the name of a region has ", bytes,
                         " bytes; ", kLongestRegion, " are possible"));
    }
    return {name.substr(0, bytes), is_dice};
  }
  throw Error(concat(table.place(table.header), ": column \"", name,
                     "\" is neither REGION Dice nor REGION HD95"));
}

double parse_score(const CsvTable& table, const CsvRow& row, const std::string& text) {
  if (text.empty()) return std::numeric_limits<double>::quiet_NaN();
  double value = 0;
  const auto* end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, value);
  if (result.ec != std::errc() || result.ptr != end || !std::isfinite(value) || value < 0) {
    throw Error(concat(table.place(row), ": \"", text, "\" is no score"));
  }
  return value;
}

}  // namespace

PublishedScores read_published(const std::filesystem::path& path) {
  const CsvTable table = read_csv(path);
  if (to_lower(table.header.fields[0]) != "method") {
    throw Error(concat(table.place(table.header), ": the first column must be \"method\""));
  }
  if (table.rows.size() * table.header.fields.size() > kMostFields) {
    throw Error(concat(table.origin, ": has more than ", kMostFields, " fields"));
  }
  std::vector<Column> columns;
  for (std::size_t i = 1; i < table.header.fields.size(); ++i) {
    columns.push_back(parse_column(table, table.header.fields[i]));
  }
  PublishedScores published{path.stem().string(), {}};
  for (const CsvRow& row : table.rows) {
    constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
    PublishedScores::Method method{row.fields[0], {}};
    for (std::size_t i = 0; i < columns.size(); ++i) {
      const auto& [region, is_dice] = columns[i];
      auto& scores = method.scores.try_emplace(region, kNan, kNan).first->second;
      (is_dice ? scores.first : scores.second) = parse_score(table, row, row.fields[i + 1]);
    }
    published.methods.push_back(std::move(method));
  }
  return published;
}

}  // namespace segmamba::eval
