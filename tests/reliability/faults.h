#pragma once
// The programs with faults planted into their calls on files (fault_shim.cpp).

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "apps/programs.h"

namespace segmamba::test {

// A call on a file, as the shim tells it.
struct Call {
  std::string name, path;
  bool is_hit = false;  // by the fault

  // What a person knows the file by: of a temporary file the name that it is to get.
  std::string known_name() const;
  bool is_in_folder(const std::string& folder) const;
};

struct Fault {
  fs::path folder;           // whose files count
  std::string action = {};   // see fault_shim.cpp; "" for none
  std::int64_t at = 0;       // counted from 1
  std::string times = "1";   // or "all"
  std::string on = "write";  // or "read"
};

// The number of a variable of the environment, or `otherwise`.
std::int64_t number_from_environment(const char* name, std::int64_t otherwise);

class FaultyPrograms : public Programs {
 protected:
  // Working folders are made new in the test's own.
  fs::path new_folder(const std::string& name) const;

  pid_t start_with(const fs::path& folder, const std::vector<std::string>& words,
                   const Fault& fault) const;
  Outcome run_with(const fs::path& folder, const std::vector<std::string>& words,
                   const Fault& fault) const;
  // Those of the last run in `folder`.
  static std::vector<Call> calls(const fs::path& folder);
  // The first of them that was hit. Where several threads write it need not be the one that an
  // undisturbed run counted.
  static Call hit_call(const fs::path& folder);
};

}  // namespace segmamba::test
