#include "segmamba/data/sampler.h"

#include <gmock/gmock.h>

#include <cmath>
#include <map>
#include <set>

#include "prepared_scene.h"
#include "segmamba/core/error.h"

namespace segmamba::data {
namespace {

TEST(CaseOfSample, EveryPassShowsEveryCaseOnceInANewOrder) {
  std::set<std::vector<std::size_t>> orders;
  for (std::int64_t pass = 0; pass < 20; ++pass) {
    std::vector<std::size_t> order;
    for (std::int64_t i = 0; i < 7; ++i) order.push_back(case_of_sample(3, 7 * pass + i, 7));
    EXPECT_EQ(std::set<std::size_t>(order.begin(), order.end()).size(), 7U);
    orders.insert(order);
  }
  EXPECT_EQ(orders.size(), 20U);
}

TEST(DrawPlace, IsUniformOverThePlacesWithinTheCase) {
  const auto item = test::prepared_case({6, 5, 4});
  SamplingConfig config;
  config.foreground_fraction = 0;
  std::map<Index3, int> counts;
  Random random(5);
  constexpr int kDraws = 24000;
  for (int i = 0; i < kDraws; ++i) {
    ++counts[draw_place(item, {3, 4, 2}, config, {false, true, true}, random)];
  }
  EXPECT_EQ(counts.size(), 4U * 2 * 3);
  for (const auto& [begin, count] : counts) {
    // 1000 each; five standard deviations.
    EXPECT_NEAR(count, 1000, 5 * std::sqrt(1000.0)) << begin[0] << begin[1] << begin[2];
  }
}

TEST(DrawPlace, ASmallCaseLiesInTheMiddle) {
  const auto item = test::prepared_case({3, 8, 4});
  SamplingConfig config;
  Random random(5);
  for (int i = 0; i < 50; ++i) {
    const auto begin = draw_place(item, {7, 4, 4}, config, {false, true, true}, random);
    EXPECT_EQ(begin[0], -2);
    EXPECT_EQ(begin[2], 0);
  }
}

// The class of the voxel that a patch of one voxel shows.
std::map<int, int> classes_seen(const PreparedCase& item, const SamplingConfig& config, int draws) {
  const auto foreground = foreground_classes(config, {"background", "large", "small"});
  std::map<int, int> counts;
  Random random(9);
  for (int i = 0; i < draws; ++i) {
    const auto at = draw_place(item, {1, 1, 1}, config, foreground, random);
    ++counts[item.labels[static_cast<std::size_t>((at[0] * item.size[1] + at[1]) * item.size[2] +
                                                  at[2])]];
  }
  return counts;
}

TEST(DrawPlace, ForegroundIsDrawnByClassOrByVoxel) {
  const auto item = test::prepared_case({12, 11, 10});
  SamplingConfig config;
  config.foreground_fraction = 1;
  constexpr int kDraws = 4000;
  auto counts = classes_seen(item, config, kDraws);
  EXPECT_EQ(counts.count(0), 0U);
  EXPECT_NEAR(counts[1], kDraws / 2, 5 * std::sqrt(kDraws / 4.0));
  // By voxel: in the proportion of the classes.
  config.foreground = "all";
  std::map<int, std::int64_t> voxels;
  for (const auto label : item.labels) ++voxels[label];
  counts = classes_seen(item, config, kDraws);
  const double share = static_cast<double>(voxels[1]) / static_cast<double>(voxels[1] + voxels[2]);
  EXPECT_NEAR(counts[1], kDraws * share, 5 * std::sqrt(kDraws * share * (1 - share)));
  // One class alone.
  config.classes = {"small"};
  counts = classes_seen(item, config, 200);
  EXPECT_EQ(counts[2], 200);
}

TEST(DrawPlace, EveryVoxelOfAClassIsReached) {
  const auto item = test::prepared_case({3, 4, 5});
  SamplingConfig config;
  config.foreground_fraction = 1;
  config.foreground = "all";
  std::set<Index3> seen;
  Random random(2);
  for (int i = 0; i < 2000; ++i) {
    seen.insert(draw_place(item, {1, 1, 1}, config, {false, true, true}, random));
  }
  const auto background = std::count(item.labels.begin(), item.labels.end(), 0);
  EXPECT_EQ(seen.size(), item.labels.size() - static_cast<std::size_t>(background));
}

TEST(DrawPlace, AShareOfThePatchesIsAroundForeground) {
  const auto item = test::prepared_case({20, 20, 20}, 1, 2);
  SamplingConfig config;
  config.foreground_fraction = 0.33;
  double tumour = 0;
  for (const auto label : item.labels) tumour += label != 0 ? 1 : 0;
  const double expected = 0.33 + 0.67 * tumour / static_cast<double>(item.labels.size());
  int count = 0;
  Random random(1);
  constexpr int kDraws = 5000;
  for (int i = 0; i < kDraws; ++i) {
    const auto at = draw_place(item, {1, 1, 1}, config, {false, true}, random);
    count += item.labels[static_cast<std::size_t>((at[0] * 20 + at[1]) * 20 + at[2])] != 0 ? 1 : 0;
  }
  EXPECT_NEAR(count, expected * kDraws, 5 * std::sqrt(kDraws * expected * (1 - expected)));
}

// As in a file of a cache that says of itself what is not so.
TEST(DrawPlace, CountsThatTheLabelsDoNotHoldAreRefused) {
  auto item = test::prepared_case({2, 3, 4}, 1, 2);
  const std::vector<std::uint8_t> labels(24, 0);
  item.labels = labels;
  SamplingConfig config;
  config.foreground_fraction = 1;
  const std::vector<std::vector<std::int32_t>> lies = {
      {11, 1, 12, 0}, {12, 0, 0, 12}, {12, -1, 10, 2}};
  for (const auto& counts : lies) {
    item.class_counts = counts;
    Random random(1);
    EXPECT_THAT(
        [&] {
          draw_place(item, {1, 1, 1}, config, {false, true}, random);
        },
        ::testing::ThrowsMessage<Error>(
            ::testing::HasSubstr("case case: its labels are not those that were counted")));
  }
}

TEST(ForegroundClasses, NamesWhatIsNotThere) {
  SamplingConfig config;
  config.classes = {"tumour"};
  EXPECT_THAT(
      [&] {
        foreground_classes(config, {"background", "liver"});
      },
      ::testing::ThrowsMessage<Error>(
          "sampling.classes: there is no class tumour in data.classes (background, liver)"));
}

}  // namespace
}  // namespace segmamba::data
