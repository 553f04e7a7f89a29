#pragma once
// What this process holds of memory, and held at most, in bytes.

#include <malloc.h>

#include <cstdint>
#include <fstream>
#include <string>

namespace segmamba::test {

inline std::uint64_t memory_status(const std::string& key) {
  std::ifstream file("/proc/self/status");
  for (std::string word; file >> word;) {
    std::uint64_t kilobytes = 0;
    if (word == key + ":" && file >> kilobytes) return kilobytes << 10;
  }
  return 0;
}

// Since the last call of held_memory().
inline std::uint64_t peak_memory() { return memory_status("VmHWM"); }

// From here on peak_memory() counts anew.
inline std::uint64_t held_memory() {
  malloc_trim(0);
  std::ofstream("/proc/self/clear_refs") << 5;
  return memory_status("VmRSS");
}

}  // namespace segmamba::test
