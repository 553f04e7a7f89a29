#include "segmamba/core/parallel.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <system_error>
#include <thread>
#include <vector>

#include "segmamba/core/error.h"

namespace segmamba {
namespace {

TEST(ParallelFor, VisitsEveryItemOnce) {
  for (const int threads : {1, 2, 5, 64}) {
    std::vector<int> visits(1000, 0);
    parallel_for(
        1000, [&](std::int64_t i) { ++visits[static_cast<std::size_t>(i)]; }, threads);
    EXPECT_EQ(visits, std::vector<int>(1000, 1)) << threads << " threads";
  }
}

TEST(ParallelFor, RethrowsTheFirstErrorAndStopsHandingOut) {
  std::atomic<int> visited{0};
  EXPECT_THROW(parallel_for(
                   1000000,
                   [&](std::int64_t) {
                     ++visited;
                     throw Error("stop");
                   },
                   4),
               Error);
  EXPECT_LE(visited, 4);
}

TEST(Workers, UseThePoolThatTheyAreGiven) {
  static std::atomic<int> calls;
  calls = 0;
  const Workers workers(4, [](int threads, const std::function<void()>& work) {
    ++calls;
    for (int i = 0; i < threads; ++i) work();
  });
  std::vector<int> visits(1000, 0);
  workers.run(1000, [&](std::int64_t i) { ++visits[static_cast<std::size_t>(i)]; });
  EXPECT_EQ(visits, std::vector<int>(1000, 1));
  EXPECT_EQ(calls, 1);
  EXPECT_THROW(workers.run(2, [](std::int64_t) { throw Error("stop"); }), Error);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
// A process whose address space has no room for the stack of a thread.
TEST(ParallelFor, GoesOnWhereTheSystemHasNoMoreThreads) {
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    std::int64_t pages = 0;
    std::ifstream("/proc/self/statm") >> pages;
    const auto bytes = static_cast<rlim_t>(pages * sysconf(_SC_PAGESIZE) + (1 << 20));
    const rlimit limit{bytes, bytes};
    setrlimit(RLIMIT_AS, &limit);
    constexpr int kThreads = 64;  // more than the library keeps stacks of ended ones for
    std::vector<std::thread> threads;
    std::atomic<bool> may_end{false};
    bool is_refused = false;
    try {
      for (int i = 0; i < kThreads; ++i) threads.emplace_back([&] { may_end.wait(false); });
    } catch (const std::system_error&) {
      is_refused = true;
    }
    may_end = true;
    may_end.notify_all();
    for (auto& thread : threads) thread.join();
    std::atomic<int> visited{0};
    parallel_for(
        1000, [&](std::int64_t) { ++visited; }, kThreads);
    _exit(is_refused && visited == 1000 ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}
#endif

TEST(ParallelFor, NothingToDo) {
  parallel_for(0, [](std::int64_t) { FAIL(); });
}

}  // namespace
}  // namespace segmamba
