#pragma once
// For tests of short memory. Not with sanitizers, which take terabytes of addresses.

#include <sys/resource.h>
#include <unistd.h>

#include <cstdint>
#include <fstream>

namespace segmamba::test {

// While it lives, this process can have so many bytes more than it has now.
class LimitedMemory {
 public:
  explicit LimitedMemory(std::int64_t more_bytes) {
    ::getrlimit(RLIMIT_AS, &before_);
    rlimit limit = before_;
    std::int64_t pages = 0;  // the first number of statm: of the whole address space
    std::ifstream("/proc/self/statm") >> pages;
    limit.rlim_cur = static_cast<rlim_t>(pages * ::sysconf(_SC_PAGESIZE) + more_bytes);
    ::setrlimit(RLIMIT_AS, &limit);
  }
  ~LimitedMemory() { ::setrlimit(RLIMIT_AS, &before_); }
  LimitedMemory(const LimitedMemory&) = delete;
  LimitedMemory& operator=(const LimitedMemory&) = delete;

 private:
  rlimit before_{};
};

}  // namespace segmamba::test
