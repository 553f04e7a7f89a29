#include "segmamba/core/memory.h"

#include <gtest/gtest.h>
#include <sys/sysinfo.h>

#include <cerrno>
#include <new>
#include <vector>

namespace segmamba {
namespace {

TEST(AvailableMemory, IsNoMoreThanTheMachineHas) {
  struct sysinfo system {};
  ASSERT_EQ(sysinfo(&system), 0);
  const auto all = (std::uint64_t{system.totalram} + system.totalswap) * system.mem_unit;
  EXPECT_GT(available_memory(), std::uint64_t{1} << 20);
  EXPECT_LE(available_memory(), total_memory());
  EXPECT_LE(total_memory(), all);
}

TEST(ResidentMemory, HoldsWhatWasTaken) {
  constexpr std::uint64_t kBytes = 64 << 20, kSlack = 16 << 20;
  const auto before = restart_peak_memory();
  EXPECT_GT(before, 0U);
  const std::vector<char> held(kBytes, 1);
  EXPECT_EQ(held.back(), 1);
  EXPECT_GE(resident_memory().now, before + kBytes - kSlack);
  EXPECT_GE(resident_memory().peak, before + kBytes - kSlack);
}

TEST(ResidentMemory, CountsThePeakAnew) {
  constexpr std::uint64_t kSlack = 16 << 20;
  EXPECT_EQ(std::vector<char>(64 << 20, 1).back(), 1);
  const auto now = restart_peak_memory();
  EXPECT_LT(resident_memory().peak, now + kSlack);
}

TEST(ShortMemory, IsToldFromOtherFailuresOfTheSystem) {
  EXPECT_THROW(refuse_short_memory(ENOMEM), std::bad_alloc);
  for (const int other : {0, EACCES, EIO}) EXPECT_NO_THROW(refuse_short_memory(other)) << other;
}

}  // namespace
}  // namespace segmamba
