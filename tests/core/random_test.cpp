#include "segmamba/core/random.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <set>
#include <vector>

namespace segmamba {
namespace {

// Known-answer vectors of the Random123 library (kat_vectors, philox4x32 10).
TEST(Random, PhiloxKnownAnswers) {
  using Block = std::array<std::uint32_t, 4>;
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}),
            (Block{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
            (Block{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Block{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Random, SameNameSameNumbersOtherNameOtherNumbers) {
  const auto first = [](Random random) { return random.next_u64(); };
  EXPECT_EQ(first(Random(7, 3)), first(Random(7, 3)));
  std::set<std::uint64_t> seen;
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    for (std::uint64_t stream = 0; stream < 20; ++stream) seen.insert(first(Random(seed, stream)));
  }
  EXPECT_EQ(seen.size(), 400u);
  EXPECT_EQ(first(Random::keyed(1, {2, 3})), first(Random::keyed(1, {2, 3})));
  EXPECT_NE(first(Random::keyed(1, {2, 3})), first(Random::keyed(1, {3, 2})));
  EXPECT_NE(first(Random::keyed(1, {2})), first(Random::keyed(1, {2, 0})));
}

// Bounds at 5 standard errors of 200,000 samples.
TEST(Random, MomentsOfUniformAndNormal) {
  constexpr int kSamples = 200000;
  Random random(42);
  double sum = 0, normal_sum = 0, normal_squares = 0, normal_cubes = 0;
  for (int i = 0; i < kSamples; ++i) {
    const double u = random.uniform();
    ASSERT_GE(u, 0);
    ASSERT_LT(u, 1);
    sum += u;
    const double n = random.normal();
    normal_sum += n;
    normal_squares += n * n;
    normal_cubes += n * n * n;
  }
  EXPECT_NEAR(sum / kSamples, 0.5, 5 * std::sqrt(1.0 / 12 / kSamples));
  EXPECT_NEAR(normal_sum / kSamples, 0, 5 * std::sqrt(1.0 / kSamples));
  EXPECT_NEAR(normal_squares / kSamples, 1, 5 * std::sqrt(2.0 / kSamples));
  EXPECT_NEAR(normal_cubes / kSamples, 0, 5 * std::sqrt(15.0 / kSamples));
}

TEST(Random, IntegersCoverTheRangeEvenly) {
  Random random(1);
  std::vector<int> counts(7, 0);
  for (int i = 0; i < 70000; ++i) ++counts[static_cast<std::size_t>(random.integer(7))];
  for (const int count : counts) EXPECT_NEAR(count, 10000, 5 * std::sqrt(10000.0 * 6 / 7));
}

TEST(Random, ShuffleIsAPermutation) {
  std::vector<int> items(100), sorted(100);
  std::iota(items.begin(), items.end(), 0);
  sorted = items;
  Random random(5);
  random.shuffle(items);
  EXPECT_NE(items, sorted);
  std::sort(items.begin(), items.end());
  EXPECT_EQ(items, sorted);
}

}  // namespace
}  // namespace segmamba
