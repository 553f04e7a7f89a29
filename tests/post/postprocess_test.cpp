#include "segmamba/post/postprocess.h"

#include <gmock/gmock.h>

#include <tuple>

#include "label_map.h"
#include "support/error_of.h"

namespace segmamba::post {
namespace {

using metrics::Connectivity;
using metrics::Region;
using metrics::Size;
using ::testing::Each;
using ::testing::IsEmpty;

constexpr double kMillilitre = 1e-3;  // of a voxel of 1 mm^3

Rule remove_below(const Region& region, double millilitres) {
  return {.kind = RuleKind::kRemoveBelow, .region = region, .millilitres = millilitres};
}

Rule fill_holes(const Region& region) { return {.kind = RuleKind::kFillHoles, .region = region}; }

TEST(RemoveBelow, APartBecomesWhatSurroundsIt) {
  Map map({12, 8, 8});
  map.fill({1, 1, 1}, {7, 7, 7}, 2);
  map.fill({2, 2, 2}, {4, 3, 3}, 3);   // within oedema
  map.fill({9, 2, 2}, {10, 4, 3}, 3);  // in the background
  map.fill({4, 4, 4}, {6, 6, 6}, 3);   // 8 voxels: stays
  Map expected = map;
  expected.fill({2, 2, 2}, {4, 3, 3}, 2);
  expected.fill({9, 2, 2}, {10, 4, 3}, 0);
  Rule rule = remove_below(kEnhancing, 8 * kMillilitre);
  rule.name = "remove_below_ml: ET=0.008";
  Map changed = map;
  const Change change = changed.apply(rule);
  EXPECT_EQ(changed.labels, expected.labels);
  EXPECT_EQ(change.rule, rule.name);
  EXPECT_EQ(change.parts, 2);
  EXPECT_EQ(change.voxels, 4);
  EXPECT_DOUBLE_EQ(change.millilitres, 4 * kMillilitre);

  rule.becomes = 1;
  map.apply(rule);
  EXPECT_EQ(map.count(1), 4);
  EXPECT_EQ(map.count(3), 8);
}

TEST(RemoveBelow, TheLabelOnMostFacesWinsAndTheLowestOfEqualOnes) {
  Map map({3, 3, 3});
  map.at(1, 1, 1) = 3;
  map.at(0, 1, 1) = map.at(2, 1, 1) = map.at(1, 0, 1) = 2;
  map.at(1, 2, 1) = map.at(1, 1, 0) = map.at(1, 1, 2) = 1;
  Map tied = map;
  tied.apply(remove_below(kEnhancing, 1));
  EXPECT_EQ(tied.at(1, 1, 1), 1);
  map.at(1, 1, 2) = 2;
  map.at(0, 0, 0) = map.at(2, 2, 2) = map.at(0, 0, 1) = 1;  // no faces of it
  map.apply(remove_below(kEnhancing, 1));
  EXPECT_EQ(map.at(1, 1, 1), 2);
}

TEST(RemoveBelow, APartOfExactlyTheVolumeStays) {
  for (std::int64_t voxels = 1; voxels < 300; ++voxels) {
    Map map({300, 1, 1});
    map.fill({0, 0, 0}, {voxels, 1, 1}, 3);
    EXPECT_EQ(map.apply(remove_below(kEnhancing, static_cast<double>(voxels) / 1000)).voxels, 0);
    EXPECT_EQ(map.apply(remove_below(kEnhancing, static_cast<double>(voxels + 1) / 1000)).voxels,
              voxels);
  }
}

TEST(RemoveBelow, VolumesAreThoseOfTheSpacing) {
  Map map({8, 4, 4});
  map.grid.spacing = {0.5, 1, 5};  // 2.5 mm^3
  map.fill({1, 1, 1}, {3, 2, 2}, 3);
  Map same = map;
  EXPECT_EQ(same.apply(remove_below(kEnhancing, 5 * kMillilitre)).voxels, 0);
  const Change change = map.apply(remove_below(kEnhancing, 5.1 * kMillilitre));
  EXPECT_EQ(change.voxels, 2);
  EXPECT_DOUBLE_EQ(change.millilitres, 5 * kMillilitre);
}

TEST(RemoveBelow, ConnectivityDecidesWhatIsOnePart) {
  for (const auto& [connectivity, corner_stays, edge_stays] :
       {std::tuple{Connectivity::kFaces, false, false},
        std::tuple{Connectivity::kEdges, false, true},
        std::tuple{Connectivity::kCorners, true, true}}) {
    Map map({9, 9, 9});
    map.at(1, 1, 1) = map.at(2, 2, 2) = 3;  // share a corner
    map.at(6, 6, 6) = map.at(6, 7, 7) = 3;  // share an edge
    Rule rule = remove_below(kEnhancing, 2 * kMillilitre);
    rule.connectivity = connectivity;
    map.apply(rule);
    EXPECT_EQ(map.at(1, 1, 1) != 0, corner_stays);
    EXPECT_EQ(map.at(6, 6, 6) != 0, edge_stays);
  }
}

TEST(KeepLargest, TheOthersGoAndOfEqualOnesTheFirstStays) {
  Map map({12, 3, 3});
  map.fill({0, 0, 0}, {2, 1, 1}, 1);
  map.fill({4, 0, 0}, {7, 1, 1}, 2);
  map.fill({9, 0, 0}, {12, 1, 1}, 3);
  const Rule rule = {.kind = RuleKind::kKeepLargest, .region = kWhole};
  Map one = map;
  EXPECT_EQ(one.apply(rule).parts, 2);
  EXPECT_EQ(one.count(0), 12 * 9 - 3);
  EXPECT_EQ(one.count(2), 3);
  Rule two_rule = rule;
  two_rule.count = 2;
  EXPECT_EQ(map.apply(two_rule).parts, 1);
  EXPECT_EQ(map.count(1), 0);
  EXPECT_EQ(map.count(2) + map.count(3), 6);
}

TEST(ReplaceBelow, LooksAtTheWholeRegion) {
  Map map({12, 3, 3});
  map.at(0, 0, 0) = map.at(5, 0, 0) = map.at(11, 2, 2) = 3;
  Rule rule = {.kind = RuleKind::kReplaceBelow,
               .region = kEnhancing,
               .millilitres = 3 * kMillilitre,
               .becomes = 1};
  Map same = map;
  EXPECT_EQ(same.apply(rule).voxels, 0);
  EXPECT_EQ(same.labels, map.labels);
  rule.millilitres = 4 * kMillilitre;
  const Change change = map.apply(rule);
  EXPECT_EQ(change.voxels, 3);
  EXPECT_EQ(change.parts, 3);
  EXPECT_EQ(map.count(1), 3);
  EXPECT_EQ(map.count(3), 0);
}

TEST(FillHoles, EnclosedBackgroundBecomesTheLabelAroundIt) {
  Map map({9, 9, 9});
  map.fill({1, 1, 1}, {8, 8, 8}, 2);
  map.fill({3, 3, 3}, {6, 6, 6}, 0);
  map.at(3, 3, 2) = 1;  // one of the faces of the hole
  Map filled = map;
  const Change change = filled.apply(fill_holes(kWhole));
  EXPECT_EQ(change.voxels, 27);
  EXPECT_EQ(change.parts, 1);
  EXPECT_EQ(filled.count(2), 7 * 7 * 7 - 1);
  EXPECT_EQ(filled.count(1), 1);

  Rule rule = fill_holes(kWhole);
  rule.becomes = 1;
  Map with_necrosis = map;
  with_necrosis.apply(rule);
  EXPECT_EQ(with_necrosis.count(1), 28);

  map.at(4, 4, 6) = map.at(4, 4, 7) = 0;  // a way out
  EXPECT_EQ(map.apply(fill_holes(kWhole)).voxels, 0);
}

TEST(FillHoles, AWayOverAnEdgeIsNone) {
  Map map({5, 5, 5});
  map.fill({1, 1, 1}, {4, 4, 4}, 2);
  map.at(2, 2, 2) = 0;
  map.at(3, 3, 2) = 0;  // touches it by an edge, and the outside by faces
  EXPECT_EQ(map.apply(fill_holes(kWhole)).voxels, 1);
  EXPECT_EQ(map.at(2, 2, 2), 2);
  EXPECT_EQ(map.at(3, 3, 2), 0);
}

TEST(FillHoles, TheBorderOfTheGridIsOutside) {
  Map map({5, 5, 5}, 2);
  map.at(0, 2, 2) = 0;
  map.at(2, 2, 2) = 0;
  EXPECT_EQ(map.apply(fill_holes(kWhole)).voxels, 1);
  EXPECT_EQ(map.at(0, 2, 2), 0);
}

TEST(FillHoles, OtherLabelsInTheHoleStay) {
  Map map({7, 7, 7});
  map.fill({1, 1, 1}, {6, 6, 6}, 2);
  map.fill({2, 2, 2}, {5, 5, 5}, 4);  // a resection cavity
  Map same = map;
  EXPECT_EQ(same.apply(fill_holes(kWhole)).parts, 0);
  EXPECT_EQ(same.labels, map.labels);
  map.at(3, 3, 3) = 0;
  EXPECT_EQ(map.apply(fill_holes(kWhole)).voxels, 1);
  EXPECT_EQ(map.count(4), 26);
}

TEST(Postprocess, LaterRulesSeeWhatEarlierOnesDid) {
  Map map({7, 7, 7});
  map.fill({1, 1, 1}, {6, 6, 6}, 3);
  map.fill({2, 2, 2}, {5, 5, 5}, 0);  // 98 voxels without the hole, 125 with it
  const std::vector<Rule> fill_first = {fill_holes(kWhole), remove_below(kWhole, 0.1)};
  const std::vector<Rule> fill_last = {remove_below(kWhole, 0.1), fill_holes(kWhole)};
  Map other = map;
  const auto changes = postprocess(map.labels, map.grid, fill_first);
  EXPECT_EQ(map.count(3), 125);
  EXPECT_EQ(changes[0].voxels, 27);
  EXPECT_EQ(changes[1].voxels, 0);
  postprocess(other.labels, other.grid, fill_last);
  EXPECT_EQ(other.count(3), 0);
}

TEST(Postprocess, EmptyMapsStayEmpty) {
  std::vector<Rule> rules = {fill_holes(kWhole), remove_below(kWhole, 1)};
  rules.push_back({.kind = RuleKind::kKeepLargest, .region = kWhole});
  rules.push_back(
      {.kind = RuleKind::kReplaceBelow, .region = kWhole, .millilitres = 9, .becomes = 0});
  for (const Size& size : {Size{5, 4, 3}, Size{0, 0, 0}, Size{1, 1, 1}}) {
    Map map(size);
    for (const Change& change : postprocess(map.labels, map.grid, rules)) {
      EXPECT_EQ(change.voxels, 0);
      EXPECT_EQ(change.parts, 0);
    }
    EXPECT_THAT(map.labels, Each(0));
  }
}

TEST(Postprocess, WithoutRulesNothingChanges) {
  Map map({3, 2, 1}, 7);
  EXPECT_THAT(postprocess(map.labels, map.grid, {}), IsEmpty());
  EXPECT_THAT(map.labels, Each(7));
}

TEST(Postprocess, AMapThatIsOneRegionIsRemovedToBackground) {
  Map map({3, 2, 1}, 3);
  EXPECT_EQ(map.apply(remove_below(kEnhancing, 1)).voxels, 6);
  EXPECT_THAT(map.labels, Each(0));
}

TEST(Postprocess, TheSizeMustFit) {
  std::vector<std::uint8_t> labels(23);
  EXPECT_EQ(test::error_of([&] {
              postprocess(labels, {{4, 3, 2}, {1, 1, 1}}, {});
            }),
            "postprocess: a grid of 4x3x2 has 24 voxels, got 23 labels");
}

}  // namespace
}  // namespace segmamba::post
