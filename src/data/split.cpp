#include "segmamba/data/split.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <iterator>
#include <map>
#include <set>
#include <string_view>

#include "segmamba/core/config.h"
#include "segmamba/core/error.h"
#include "segmamba/core/files.h"
#include "segmamba/core/json.h"
#include "segmamba/core/random.h"
#include "segmamba/core/text.h"
#include "segmamba/core/version.h"

namespace segmamba::data {
namespace {

// FNV-1a. It has to stay: another hash would give existing users other splits.
std::uint64_t hash_of(const std::string& text) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const unsigned char byte : text) hash = (hash ^ byte) * 0x100000001b3;
  return hash;
}

// The patients in an order that depends on the seed and each one's own name alone, with their
// cases.
std::vector<std::vector<std::string>> shuffled_patients(const std::vector<Case>& cases,
                                                        std::uint64_t seed) {
  std::map<std::string, std::vector<std::string>> patients;
  for (const auto& item : cases) patients[item.patient].push_back(item.name);
  if (patients.empty()) throw Error("cannot split a data set without cases");
  std::map<std::pair<std::uint64_t, std::string>, std::vector<std::string>> order;
  for (auto& [patient, names] : patients) {
    const auto place = Random::keyed(seed, {hash_of(patient)}).next_u64();
    order[{place, patient}] = std::move(names);
  }
  std::vector<std::vector<std::string>> result;
  for (auto& [place, names] : order) result.push_back(std::move(names));
  return result;
}

void append(std::vector<std::string>& part, const std::vector<std::string>& names) {
  part.insert(part.end(), names.begin(), names.end());
}

void sort(std::vector<std::string>& part) { std::sort(part.begin(), part.end()); }

// The keys of a file of parts.
struct PartsFile {
  Split split;
  void visit(ConfigVisitor& visitor) {
    visitor.value({.name = "train", .help = "Cases to train on", .min_items = 1}, split.train);
    visitor.value({.name = "validation", .help = "Cases that choose the best checkpoint"},
                  split.validation);
    visitor.value({.name = "test", .help = "Cases kept for the final score"}, split.test);
  }
};

std::string fold_key(std::size_t fold) { return concat("fold_", fold); }

// The keys of a file of folds, as many as `folds` has room for.
struct FoldsFile {
  std::vector<std::vector<std::string>> folds;
  std::vector<std::string> test;
  void visit(ConfigVisitor& visitor) {
    for (std::size_t i = 0; i < folds.size(); ++i) {
      const std::string name = fold_key(i);
      visitor.value({.name = name, .help = "Cases of a fold", .min_items = 1}, folds[i]);
    }
    visitor.value({.name = "test", .help = "Cases kept for the final score"}, test);
  }
};

// What a file says, with nothing left of its document, which takes many times its text.
Split read_parts(const std::filesystem::path& path, std::int64_t fold) {
  const auto document = ConfigDocument::from_file(path);
  if (!document.has(fold_key(0))) {
    if (fold >= 0) {
      throw Error(concat(path.string(), ": has no folds, and data.fold is ", fold,
                         "; set it to -1, or take a file of segmamba-data split --folds"));
    }
    PartsFile file;
    document.read(file);
    return std::move(file.split);
  }
  FoldsFile file;
  while (document.has(fold_key(file.folds.size()))) {
    file.folds.emplace_back();
    if (std::ssize(file.folds) > kMostFolds) {
      throw Error(concat(path.string(), ": has more than ", kMostFolds, " folds"));
    }
  }
  const auto count = static_cast<std::int64_t>(file.folds.size());
  if (fold < 0 || fold >= count) {
    throw Error(concat(path.string(), ": has ", count, " folds: set data.fold to 0 to ", count - 1,
                       fold < 0 ? "" : concat(", not ", fold)));
  }
  document.read(file);
  Split split;
  for (std::int64_t i = 0; i < count; ++i) {
    auto& names = file.folds[static_cast<std::size_t>(i)];
    auto& part = i == fold ? split.validation : split.train;
    part.insert(part.end(), std::make_move_iterator(names.begin()),
                std::make_move_iterator(names.end()));
  }
  std::sort(split.train.begin(), split.train.end());
  std::sort(split.validation.begin(), split.validation.end());
  split.test = std::move(file.test);
  return split;
}

// Whether YAML, of whatever version, takes it as it is for that text: for no number, date, truth or
// nothing.
bool is_plain(const std::string& name) {
  static const std::string kPlain =
      "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_-.";
  static const std::set<std::string> kWords = {"null", "true", "false", "yes", "no",
                                               "on",   "off",  "y",     "n"};
  return !name.empty() && name.find_first_not_of(kPlain) == std::string::npos &&
         std::isalpha(static_cast<unsigned char>(name.front())) != 0 &&
         !kWords.contains(to_lower(name));
}

// A JSON string is a YAML string.
std::string quoted(const std::string& name) {
  try {
    return Json(name).dump();
  } catch (const Json::type_error&) {
    throw Error(
        concat("case ", name, ": its name is not UTF-8, as a split file has to be; rename it"));
  }
}

std::string list_to_yaml(const std::string& key, const std::vector<std::string>& names) {
  if (names.empty()) return concat(key, ": []\n");
  std::string text = concat(key, ":  # ", names.size(), "\n");
  for (const auto& name : names) {
    text += concat("  - ", is_plain(name) ? name : quoted(name), "\n");
  }
  return text;
}

}  // namespace

Split make_split(const std::vector<Case>& cases, std::uint64_t seed) {
  const auto patients = shuffled_patients(cases, seed);
  const auto count = static_cast<std::int64_t>(patients.size());
  const auto share = [&](double fraction, std::int64_t least_patients) {
    if (count < least_patients) return std::int64_t{0};
    return std::max<std::int64_t>(1, std::llround(fraction * static_cast<double>(count)));
  };
  const std::int64_t validation = share(0.1, 2), test = share(0.2, 3);
  Split result;
  for (std::int64_t i = 0; i < count; ++i) {
    auto& part = i < validation          ? result.validation
                 : i < validation + test ? result.test
                                         : result.train;
    append(part, patients[static_cast<std::size_t>(i)]);
  }
  for (auto* part : {&result.train, &result.validation, &result.test}) sort(*part);
  return result;
}

Folds make_folds(const std::vector<Case>& cases, std::int64_t count, double test_share,
                 std::uint64_t seed) {
  const auto patients = shuffled_patients(cases, seed);
  const auto total = static_cast<std::int64_t>(patients.size());
  const auto test = std::llround(test_share * static_cast<double>(total));
  if (count < 2) throw UsageError("cross-validation needs at least 2 folds");
  if (total - test < count) {
    throw Error(concat("cannot make ", count, " folds of ", total, " patients",
                       test > 0 ? concat(", ", test, " of them kept for the test") : ""));
  }
  Folds result;
  result.folds.resize(static_cast<std::size_t>(count));
  for (std::int64_t i = 0; i < total; ++i) {
    const auto& names = patients[static_cast<std::size_t>(i)];
    append(i < test ? result.test : result.folds[static_cast<std::size_t>((i - test) % count)],
           names);
  }
  sort(result.test);
  for (auto& fold : result.folds) sort(fold);
  return result;
}

void write_split(const std::filesystem::path& path, const Split& split, const std::string& origin) {
  write_file_atomically(
      path, concat("# Written by segmamba ", version(), ": ", origin,
                   ".\n# It may be edited; a case stands in one list only, and all scans of a "
                   "patient in the same one.\n",
                   list_to_yaml("train", split.train), list_to_yaml("validation", split.validation),
                   list_to_yaml("test", split.test)));
}

void write_folds(const std::filesystem::path& path, const Folds& folds, std::uint64_t seed) {
  std::string text =
      concat("# Written by segmamba ", version(), ": ", folds.folds.size(),
             " folds by patient, seed ", seed,
             ". data.fold says which one validates; the others train.\n# It may be edited; a case "
             "stands in one list only, and all scans of a patient in the same one.\n");
  for (std::size_t i = 0; i < folds.folds.size(); ++i) {
    text += list_to_yaml(fold_key(i), folds.folds[i]);
  }
  write_file_atomically(path, text + list_to_yaml("test", folds.test));
}

Split read_split(const std::filesystem::path& path, std::int64_t fold) {
  Split split = read_parts(path, fold);
  std::map<std::string_view, std::string_view> part_of_case;
  for (const char* part : {"train", "validation", "test"}) {
    for (const auto& name : split_part(split, part)) {
      const auto [other, is_new] = part_of_case.emplace(name, part);
      if (is_new) continue;
      throw Error(concat(path.string(), ": case ", name, " stands twice (in ", other->second,
                         " and in ", part, ")"));
    }
  }
  return split;
}

std::vector<std::string> leaking_patients(const Split& split, const std::vector<Case>& cases) {
  std::map<std::string, std::string> patient_of_case;
  for (const auto& item : cases) patient_of_case[item.name] = item.patient;
  std::map<std::string, std::set<std::string>> parts_of_patient;
  for (const char* part : {"train", "validation", "test"}) {
    for (const auto& name : split_part(split, part)) {
      const auto found = patient_of_case.find(name);
      parts_of_patient[found == patient_of_case.end() ? patient_of(name) : found->second].insert(
          part);
    }
  }
  std::vector<std::string> leaks;
  for (const auto& [patient, parts] : parts_of_patient) {
    if (parts.size() > 1) leaks.push_back(patient);
  }
  return leaks;
}

const std::vector<std::string>& split_part(const Split& split, const std::string& part) {
  if (part == "train") return split.train;
  if (part == "validation") return split.validation;
  if (part == "test") return split.test;
  throw UsageError("a split has the parts train, validation and test, not " + part);
}

std::vector<Case> select_cases(const std::vector<Case>& cases,
                               const std::vector<std::string>& names, const std::string& origin) {
  std::vector<Case> selected;
  for (const auto& name : names) {
    const auto found = std::find_if(cases.begin(), cases.end(),
                                    [&](const Case& item) { return item.name == name; });
    if (found == cases.end()) {
      throw Error(concat(origin, ": case ", name, " is not among the ", cases.size(),
                         " cases of the data set"));
    }
    selected.push_back(*found);
  }
  return selected;
}

}  // namespace segmamba::data
