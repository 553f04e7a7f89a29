#include "segmamba/data/split.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "segmamba/core/config.h"
#include "segmamba/core/error.h"
#include "segmamba/core/files.h"
#include "segmamba/core/json.h"
#include "segmamba/core/log.h"
#include "segmamba/core/random.h"
#include "segmamba/core/text.h"
#include "segmamba/core/version.h"

namespace segmamba::data {
namespace {

// FNV-1a: the same on every machine, which std::hash is not.
std::uint64_t hash_of(const std::string& text) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const unsigned char byte : text) hash = (hash ^ byte) * 0x100000001b3;
  return hash;
}

// The keys of a split file.
struct SplitFile {
  Split split;
  void visit(ConfigVisitor& visitor) {
    visitor.value({.name = "train", .help = "Cases to train on", .min_items = 1}, split.train);
    visitor.value({.name = "validation", .help = "Cases that choose the best checkpoint"},
                  split.validation);
    visitor.value({.name = "test", .help = "Cases kept for the final score"}, split.test);
  }
};

bool is_plain(const std::string& name) {
  static const std::string kPlain =
      "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_-.";
  return !name.empty() && name.front() != '-' &&
         name.find_first_not_of(kPlain) == std::string::npos;
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
  std::map<std::string, std::vector<std::string>> patients;
  for (const auto& item : cases) patients[item.patient].push_back(item.name);
  if (patients.empty()) throw Error("cannot split a data set without cases");

  // Each patient's place in the order depends on its own name alone.
  std::vector<std::pair<std::uint64_t, std::string>> order;
  order.reserve(patients.size());
  for (const auto& [patient, names] : patients) {
    order.emplace_back(Random::keyed(seed, {hash_of(patient)}).next_u64(), patient);
  }
  std::sort(order.begin(), order.end());

  const auto count = static_cast<std::int64_t>(order.size());
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
    const auto& names = patients[order[static_cast<std::size_t>(i)].second];
    part.insert(part.end(), names.begin(), names.end());
  }
  for (auto* part : {&result.train, &result.validation, &result.test}) {
    std::sort(part->begin(), part->end());
  }
  return result;
}

void write_split(const std::filesystem::path& path, const Split& split, std::uint64_t seed) {
  write_file_atomically(
      path, concat("# Written by segmamba ", version(), ": 70/10/20 by patient, seed ", seed,
                   ".\n# It may be edited; a case stands in one list only, and all scans of a "
                   "patient in the same one.\n",
                   list_to_yaml("train", split.train), list_to_yaml("validation", split.validation),
                   list_to_yaml("test", split.test)));
}

Split read_split(const std::filesystem::path& path) {
  SplitFile file;
  ConfigDocument::from_file(path).read(file);
  std::map<std::string, std::string> part_of_case, part_of_patient;
  std::set<std::string> leaks;
  const auto collect = [&](const std::string& part, const std::vector<std::string>& names) {
    for (const auto& name : names) {
      const auto [other, is_new] = part_of_case.emplace(name, part);
      if (!is_new) {
        throw Error(concat(path.string(), ": case ", name, " stands twice (in ", other->second,
                           " and in ", part, ")"));
      }
      const auto patient = part_of_patient.emplace(patient_of(name), part).first;
      if (patient->second != part) leaks.insert(patient->first);
    }
  };
  collect("train", file.split.train);
  collect("validation", file.split.validation);
  collect("test", file.split.test);
  if (!leaks.empty()) {
    log_warning(concat(path.string(), ": ", leaks.size(), " patient(s), such as ", *leaks.begin(),
                       ", have scans in more than one part, so scores will be too good"));
  }
  return file.split;
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
