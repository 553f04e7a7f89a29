#include "segmamba/core/memory.h"

#include <fcntl.h>
#include <malloc.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <fstream>
#include <limits>
#include <new>
#include <string>

#include "segmamba/core/text.h"

namespace segmamba {
namespace {

constexpr auto kUnknown = std::numeric_limits<std::uint64_t>::max();

std::uint64_t free_memory() {
  std::ifstream file("/proc/meminfo");
  std::uint64_t sum = 0;
  bool known = false;
  for (std::string line; std::getline(file, line);) {
    const bool is_memory = starts_with(line, "MemAvailable:");
    if (!is_memory && !starts_with(line, "SwapFree:")) continue;
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

// Of the groups that this process is in, from its own up to the root; of both versions of cgroups.
std::uint64_t group_limit() {
  std::uint64_t limit = kUnknown;
  std::ifstream file("/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    const auto parts = split(line, ':');
    if (parts.size() < 3) continue;
    const bool is_second = parts[1].empty();
    if (!is_second && parts[1].find("memory") == std::string::npos) continue;
    const std::string root = is_second ? "/sys/fs/cgroup" : "/sys/fs/cgroup/memory";
    const char* name = is_second ? "memory.max" : "memory.limit_in_bytes";
    for (auto group = parts[2];; group.resize(group.rfind('/'))) {
      limit = std::min(limit, limit_in(concat(root, group, "/", name)));
      if (group.find('/') == std::string::npos) break;
    }
  }
  return limit;
}

}  // namespace

void prefer_huge_pages(void* memory, std::size_t bytes) {
  constexpr std::uintptr_t kHugePage = 1 << 21;
  if (bytes < 2 * kHugePage) return;
  const auto begin = (reinterpret_cast<std::uintptr_t>(memory) + kHugePage - 1) & ~(kHugePage - 1);
  const auto end = (reinterpret_cast<std::uintptr_t>(memory) + bytes) & ~(kHugePage - 1);
  // A hint: that it is not followed is no error.
  static_cast<void>(madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE));
}

void keep_freed_memory() {
#ifdef __GLIBC__
  mallopt(M_MMAP_MAX, 0);         // no block with pages of its own, which would go with it
  mallopt(M_TRIM_THRESHOLD, -1);  // no end of the heap given back
#endif
}

namespace {

const char* program_name = "";
std::terminate_handler handler_before = nullptr;

// What to say of what ended the process; null where it was no lack of memory.
const char* words_for(const std::exception_ptr& exception) {
  constexpr const char* kOutOfMemory = ": out of memory\n";
  // A function of a library promised not to throw, and what it threw is gone.
  if (!exception) return ": ended inside a library (out of memory?)\n";
  try {
    std::rethrow_exception(exception);
  } catch (const std::bad_alloc&) {
    return kOutOfMemory;
  } catch (const std::exception& error) {
    // LibTorch's own
    return std::strstr(error.what(), "allocate memory") == nullptr ? nullptr : kOutOfMemory;
  } catch (...) {
    return nullptr;
  }
}

// Takes no memory itself. Several threads may come here at once: one of them speaks.
[[noreturn]] void end_with(const char* words) {
  static std::atomic_flag is_told = ATOMIC_FLAG_INIT;
  while (is_told.test_and_set()) ::pause();
  for (const char* part : {program_name, words}) {
    static_cast<void>(!::write(STDERR_FILENO, part, std::strlen(part)));
  }
  ::_exit(1);
}

[[noreturn]] void end_process() {
  if (const char* words = words_for(std::current_exception())) end_with(words);
  if (handler_before != nullptr) handler_before();
  std::abort();
}

std::uint64_t limit_of(decltype(RLIMIT_AS) resource) {
  rlimit limit{};
  const bool is_set = ::getrlimit(resource, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY;
  return is_set ? limit.rlim_cur : kUnknown;
}

// Whether less than a quarter of a limit of this process is left. By system calls alone.
bool is_near_a_limit() {
  constexpr std::size_t kDataField = 5;  // of statm (proc(5)); the first is the address space
  std::array<char, 256> text{};
  const int file = ::open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
  if (file < 0 || ::read(file, text.data(), text.size() - 1) <= 0) return false;
  std::array<std::uint64_t, kDataField + 1> pages{};
  std::size_t field = 0;
  for (const char* letter = text.data(); field < pages.size() && *letter != '\0'; ++letter) {
    if (*letter == ' ') {
      ++field;
    } else {
      pages[field] = pages[field] * 10 + static_cast<std::uint64_t>(*letter - '0');
    }
  }
  const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  return pages[0] * page > limit_of(RLIMIT_AS) / 4 * 3 ||
         pages[kDataField] * page > limit_of(RLIMIT_DATA) / 4 * 3;
}

// oneDNN, for one, runs code that it had no memory to make.
void explain_fault(int signal) {
  if (is_near_a_limit()) end_with(": out of memory, which a library did not notice\n");
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

}  // namespace

void exit_where_memory_ends(const char* program) {
  program_name = program;
  const auto before = std::set_terminate(end_process);
  if (before != end_process) handler_before = before;
  const bool is_limited = limit_of(RLIMIT_AS) != kUnknown || limit_of(RLIMIT_DATA) != kUnknown;
  if (is_limited) std::signal(SIGSEGV, explain_fault);
}

std::uint64_t available_memory() { return std::min(free_memory(), group_limit()); }

}  // namespace segmamba
