#pragma once
// What is wrong with a data set, all of it at once, before hours of training find it one by one.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "segmamba/core/json.h"

namespace segmamba::data {

enum class Severity {
  kNotice,   // worth knowing
  kWarning,  // training starts, and its result may be worse for it
  kError,    // training does not start
};
std::string to_string(Severity severity);

struct Finding {
  Severity severity = Severity::kError;
  std::string kind;       // missing, unreadable, geometry, labels, old-labels, no-tumour, empty,
                          // constant, duplicate, outlier, ignored
  std::string case_name;  // "" where it is about the whole set
  std::string message;    // names the file
};

struct CheckReport {
  std::int64_t cases = 0, patients = 0;
  std::vector<Finding> findings;  // by case, then the worst first

  std::int64_t count(Severity severity) const;
  bool can_train() const { return cases > 0 && count(Severity::kError) == 0; }
  Json to_json() const;
};

// Reads every voxel of every case under `root`, several cases at a time (core/parallel.h). What
// load_case refuses is an error here, with the same words. `progress`, where given, is called with
// the number of cases done, one call at a time. Throws Error where `root` is no folder.
CheckReport check_cases(
    const std::filesystem::path& root, const std::vector<std::string>& channels,
    const std::function<void(std::int64_t done, std::int64_t total)>& progress = {});

}  // namespace segmamba::data
