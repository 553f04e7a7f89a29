#pragma once
// Which cases train, validate and test: decided once, by patient, and written to a file.

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "segmamba/data/dataset.h"

namespace segmamba::data {

struct Split {
  std::vector<std::string> train, validation, test;  // case names, sorted
};

// Of a file.
inline constexpr std::int64_t kMostFolds = 1000;

// For cross-validation: with fold i, fold i validates and the others train.
struct Folds {
  std::vector<std::vector<std::string>> folds;  // case names, sorted
  std::vector<std::string> test;                // in no fold
};

// 70/10/20 by patient: the same cases and seed give the same split on every machine, whatever the
// order of the folder. With few patients every part that must not be empty (train, then
// validation, then test) gets at least one.
Split make_split(const std::vector<Case>& cases, std::uint64_t seed);
// `count` folds whose numbers of patients differ by at most one, beside a share of the patients for
// the test. Throws Error where there are fewer patients than folds.
Folds make_folds(const std::vector<Case>& cases, std::int64_t count, double test_share,
                 std::uint64_t seed);

// A readable YAML file. Writing throws Error where it is impossible or the name of a case is not
// UTF-8.
// `origin` stands in its first line: "70/10/20 by patient, seed 1".
void write_split(const std::filesystem::path& path, const Split& split, const std::string& origin);
void write_folds(const std::filesystem::path& path, const Folds& folds, std::uint64_t seed);
// Throws Error where the file is malformed, a case stands in it twice, or `fold` does not suit it:
// -1 for a file of parts, the number of a fold for a file of folds.
Split read_split(const std::filesystem::path& path, std::int64_t fold = -1);

// Patients with scans in more than one part, sorted: scores would be too good.
std::vector<std::string> leaking_patients(const Split& split, const std::vector<Case>& cases);

// The names of "train", "validation" or "test". Throws UsageError on anything else.
const std::vector<std::string>& split_part(const Split& split, const std::string& part);
// The cases with these names, in their order. Throws Error naming one that is not among `cases`;
// `origin` says where the names came from.
std::vector<Case> select_cases(const std::vector<Case>& cases,
                               const std::vector<std::string>& names, const std::string& origin);

}  // namespace segmamba::data
