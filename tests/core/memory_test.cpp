#include "segmamba/core/memory.h"

#include <gtest/gtest.h>
#include <sys/sysinfo.h>

namespace segmamba {
namespace {

TEST(AvailableMemory, IsNoMoreThanTheMachineHas) {
  struct sysinfo system {};
  ASSERT_EQ(sysinfo(&system), 0);
  const auto all = (std::uint64_t{system.totalram} + system.totalswap) * system.mem_unit;
  EXPECT_GT(available_memory(), std::uint64_t{1} << 20);
  EXPECT_LE(available_memory(), all);
}

}  // namespace
}  // namespace segmamba
