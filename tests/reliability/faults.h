#pragma once
// The programs with faults planted into their calls on files (fault_shim.cpp).

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "apps/programs.h"

namespace segmamba::test {

// A call on a file, as the shim tells it.
struct Call {
  std::string name, path;
  bool is_hit = false;  // by the fault

  // What a person knows the file by: of a temporary file the name that it is to get.
  std::string known_name() const;
  // In a folder of that name, or the folder itself.
  bool is_in_folder(const std::string& folder) const;
  // In this folder or those below it, or the folder itself.
  bool is_below(const fs::path& folder) const;
};

struct Fault {
  fs::path writes = {};     // the folder in which calls that change something count; "" for none
  fs::path reads = {};      // the folder in which calls that read count; "" for none
  std::string action = {};  // see fault_shim.cpp; "" for none
  std::int64_t at = 0;      // counted from 1
  std::string times = "1";  // or "all"
};

// The number of a variable of the environment, or `otherwise`.
std::int64_t number_from_environment(const char* name, std::int64_t otherwise);

// Which of so many calls of a command fail in a test, one a run, counted from 0: as many as
// SEGMAMBA_FAULTS says (0: all), evenly spread; one where it says nothing. They begin where
// SEGMAMBA_FAULTS_FROM says, counted from 1; else for each command elsewhere.
std::vector<std::size_t> fault_places(const std::string& command, std::size_t calls);

class FaultyPrograms : public Programs {
 protected:
  // A process that does not outlive the test, however that ends.
  class Child {
   public:
    // Started in `folder`.
    Child(fs::path folder, pid_t id);
    ~Child();
    Child(const Child&) = delete;
    Child& operator=(const Child&) = delete;

    pid_t id() const { return id_; }
    void send(int signal) const;
    // Waits until it has stopped (SIGSTOP); false where it ends instead.
    bool stops() const;
    Outcome finish();

   private:
    fs::path folder_;
    pid_t id_;  // 0 once it was waited for
  };

  // Working folders are made new in the test's own.
  fs::path new_folder(const std::string& name) const;

  pid_t start_with(const fs::path& folder, const std::vector<std::string>& words,
                   const Fault& fault) const;
  Outcome run_with(const fs::path& folder, const std::vector<std::string>& words,
                   const Fault& fault) const;
  // Those of the last run in `folder`.
  static std::vector<Call> calls(const fs::path& folder);
  // The first of them that was hit, and the one before it. Where several threads write it need not
  // be the one that an undisturbed run counted.
  static std::pair<Call, Call> hit_calls(const fs::path& folder);
  static Call hit_call(const fs::path& folder) { return hit_calls(folder).second; }
};

}  // namespace segmamba::test
