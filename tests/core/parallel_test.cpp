#include "segmamba/core/parallel.h"

#include <gtest/gtest.h>

#include <atomic>
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

TEST(ParallelFor, NothingToDo) {
  parallel_for(0, [](std::int64_t) { FAIL(); });
}

}  // namespace
}  // namespace segmamba
