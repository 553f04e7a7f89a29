#include "segmamba/eval/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "segmamba/core/error.h"

namespace segmamba::eval {
namespace {

using ::testing::ElementsAre;

TEST(Options, ListsAreSplitAtCommas) {
  EXPECT_THAT(split_lists({"a,b", " c ", ",d,"}), ElementsAre("a", "b", "c", "d"));
}

TEST(Options, Conventions) {
  EXPECT_EQ(parse_conventions({}).at(0).name, "segmamba");
  const auto two = parse_conventions({"brats2023,medpy"});
  ASSERT_EQ(two.size(), 2u);
  EXPECT_EQ(two[0].name, "brats2023");
  EXPECT_EQ(two[1].name, "medpy");
  EXPECT_EQ(parse_conventions({"all"}).size(), metrics::conventions().size());
  EXPECT_THROW(parse_conventions({"medpy,medpy"}), UsageError);
  EXPECT_THROW(parse_conventions({"medpi"}), UsageError);
}

TEST(Options, Methods) {
  const auto one = parse_methods({"runs/a"});
  EXPECT_EQ(one.at(0).name, "prediction");
  EXPECT_EQ(one.at(0).predictions, "runs/a");
  const auto named = parse_methods({"A=runs/a", "runs/b/"});
  EXPECT_EQ(named.at(0).name, "A");
  EXPECT_EQ(named.at(0).predictions, "runs/a");
  EXPECT_EQ(named.at(1).name, "b");
  EXPECT_THROW(parse_methods({"A=x", "A=y"}), UsageError);
}

TEST(Options, Regions) {
  EXPECT_EQ(parse_regions({}).size(), 3u);
  const auto regions = parse_regions({"ET,RC", "liver=5+17"});
  ASSERT_EQ(regions.size(), 3u);
  EXPECT_THAT(regions[0].labels, ElementsAre(3));
  EXPECT_THAT(regions[1].labels, ElementsAre(4));
  EXPECT_EQ(regions[2].name, "liver");
  EXPECT_THAT(regions[2].labels, ElementsAre(5, 17));
  for (const char* text : {"XY", "a=", "a=0", "a=256", "a=1x", "=1", "ET,ET"}) {
    EXPECT_THROW(parse_regions({text}), UsageError) << text;
  }
}

TEST(Options, LabelFour) {
  EXPECT_EQ(parse_label_four("auto"), LabelFour::kAuto);
  EXPECT_EQ(parse_label_four("et"), LabelFour::kEnhancing);
  EXPECT_EQ(parse_label_four("keep"), LabelFour::kKeep);
  EXPECT_THROW(parse_label_four("4"), UsageError);
}

}  // namespace
}  // namespace segmamba::eval
