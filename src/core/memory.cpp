#include "segmamba/core/memory.h"

#include <malloc.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <new>
#include <string>

#include "segmamba/core/text.h"

namespace segmamba {
namespace {

constexpr auto kUnknown = std::numeric_limits<std::uint64_t>::max();

// The sum of two lines of /proc/meminfo (proc(5)).
std::uint64_t memory_and_swap(const char* memory, const char* swap) {
  std::ifstream file("/proc/meminfo");
  std::uint64_t sum = 0;
  bool known = false;
  for (std::string line; std::getline(file, line);) {
    const bool is_memory = starts_with(line, memory);
    if (!is_memory && !starts_with(line, swap)) continue;
    sum += std::strtoull(line.c_str() + line.find(':') + 1, nullptr, 10) << 10;
    known = known || is_memory;
  }
  return known ? sum : kUnknown;
}

// A limit is a number, or "max".
std::uint64_t limit_in(const std::string& path) {
  std::ifstream file(path);
  std::uint64_t limit = 0;
  return file >> limit ? limit : kUnknown;
}

}  // namespace

void prefer_huge_pages(void* memory, std::size_t bytes) {
  constexpr std::uintptr_t kHugePage = 1 << 21;
  if (bytes < 2 * kHugePage) return;
  const auto address = reinterpret_cast<std::uintptr_t>(memory);
  const auto begin = (address + kHugePage - 1) & ~(kHugePage - 1);
  const auto end = (address + bytes) & ~(kHugePage - 1);
  // A hint: that it is not followed is no error.
  static_cast<void>(
      madvise(static_cast<char*>(memory) + (begin - address), end - begin, MADV_HUGEPAGE));
}

void keep_freed_memory() {
#ifdef __GLIBC__
  mallopt(M_MMAP_MAX, 0);         // no block with pages of its own, which would go with it
  mallopt(M_TRIM_THRESHOLD, -1);  // no end of the heap given back
#endif
}

std::uint64_t group_memory_limit() {
  std::uint64_t limit = kUnknown;
  std::ifstream file("/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    const auto parts = split(line, ':');
    if (parts.size() < 3) continue;
    const bool is_second = parts[1].empty();  // of the two versions of control groups
    if (!is_second && parts[1].find("memory") == std::string::npos) continue;
    const std::string root = is_second ? "/sys/fs/cgroup" : "/sys/fs/cgroup/memory";
    const char* name = is_second ? "memory.max" : "memory.limit_in_bytes";
    // From its own group up to the root.
    for (auto group = parts[2];; group.resize(group.rfind('/'))) {
      limit = std::min(limit, limit_in(concat(root, group, "/", name)));
      if (group.find('/') == std::string::npos) break;
    }
  }
  return limit;
}

std::uint64_t available_memory() {
  return std::min(memory_and_swap("MemAvailable:", "SwapFree:"), group_memory_limit());
}

std::uint64_t total_memory() {
  return std::min(memory_and_swap("MemTotal:", "SwapTotal:"), group_memory_limit());
}

ResidentMemory resident_memory() {
  ResidentMemory memory;
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);) {
    const auto bytes = [&line] {
      return std::uint64_t{std::strtoull(line.c_str() + line.find(':') + 1, nullptr, 10)} << 10;
    };
    if (starts_with(line, "VmRSS:")) memory.now = bytes();
    if (starts_with(line, "VmHWM:")) memory.peak = bytes();
  }
  return memory;
}

std::uint64_t restart_peak_memory() {
  malloc_trim(0);
  std::ofstream("/proc/self/clear_refs") << 5;  // proc(5): the peak is what is resident now
  return resident_memory().now;
}

void refuse_short_memory(int code) {
  if (code == ENOMEM) throw std::bad_alloc();
}

}  // namespace segmamba
