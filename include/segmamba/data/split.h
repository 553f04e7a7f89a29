#pragma once
// Which cases train, validate and test: decided once, by patient, and written to a file.

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "segmamba/data/cases.h"

namespace segmamba::data {

struct Split {
  std::vector<std::string> train, validation, test;  // case names, sorted
};

// 70/10/20 by patient: the same cases and seed give the same split on every machine, whatever the
// order of the folder. With few patients every part that must not be empty (train, then
// validation, then test) gets at least one.
Split make_split(const std::vector<Case>& cases, std::uint64_t seed);
// A readable YAML file. write_split throws Error where it cannot be written or the name of a case
// is not UTF-8; read_split throws Error where it is malformed or a case stands twice.
void write_split(const std::filesystem::path& path, const Split& split, std::uint64_t seed);
Split read_split(const std::filesystem::path& path);

// The names of "train", "validation" or "test". Throws UsageError on anything else.
const std::vector<std::string>& split_part(const Split& split, const std::string& part);
// The cases with these names, in their order. Throws Error naming one that is not among `cases`;
// `origin` says where the names came from.
std::vector<Case> select_cases(const std::vector<Case>& cases,
                               const std::vector<std::string>& names, const std::string& origin);

}  // namespace segmamba::data
