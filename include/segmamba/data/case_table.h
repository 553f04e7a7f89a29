#pragma once
// A table with a row a case (layout csv of dataset.h), read for its labels alone.

#include <filesystem>
#include <map>
#include <string>

namespace segmamba::data {

// The label file of each case that has one. Throws Error naming file and line where the table has
// no such column, or a case twice.
std::map<std::string, std::filesystem::path> labels_of_table(const std::filesystem::path& table);

}  // namespace segmamba::data
