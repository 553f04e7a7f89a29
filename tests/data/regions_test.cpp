#include "segmamba/data/regions.h"

#include <gmock/gmock.h>

#include <algorithm>

#include "segmamba/data/dataset.h"
#include "support/error_of.h"

namespace segmamba::data {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;
using Names = std::vector<std::string>;

const Names kTreated = {"background", "oedema", "ET", "resection cavity", "NCR"};

bool holds(const Region& region, std::uint8_t class_index) {
  return std::count(region.classes.begin(), region.classes.end(), class_index) > 0;
}

TEST(Regions, OfBrats) {
  const auto regions = parse_regions({"WT", "TC", "ET"}, kBratsClasses);
  ASSERT_EQ(regions.size(), 3U);
  EXPECT_EQ(regions[0].name, "WT");
  EXPECT_THAT(regions[0].classes, UnorderedElementsAre(1, 2, 3));
  EXPECT_THAT(regions[1].classes, UnorderedElementsAre(1, 3));
  EXPECT_THAT(regions[2].classes, ElementsAre(3));
  // nnU-Net's regions_class_order of BraTS is [1, 2, 3] where oedema is 1 and necrosis 2.
  EXPECT_EQ(regions[0].painted, kOedema);
  EXPECT_EQ(regions[1].painted, kNecrosis);
  EXPECT_EQ(regions[2].painted, kEnhancing);
  EXPECT_THAT(parse_regions({}, kBratsClasses), IsEmpty());
}

TEST(Regions, FollowTheNamesOfTheClasses) {
  const auto regions = parse_regions({"whole tumor", "Tumor-Core", "et", "cavity = RC"}, kTreated);
  ASSERT_EQ(regions.size(), 4U);
  EXPECT_THAT(regions[0].classes, UnorderedElementsAre(1, 2, 4));
  EXPECT_THAT(regions[1].classes, UnorderedElementsAre(2, 4));
  EXPECT_EQ(regions[3].name, "cavity");
  EXPECT_THAT(regions[3].classes, ElementsAre(3));
  EXPECT_EQ(regions[0].painted, 1);
  EXPECT_EQ(regions[1].painted, 4);
}

// Labels -> regions -> labels, for nested, disjoint and overlapping regions.
TEST(Regions, GiveEveryClassBack) {
  const std::vector<std::pair<Names, Names>> all = {
      {{"WT", "TC", "ET"}, kBratsClasses},
      {{"WT", "ET", "rest = necrosis"}, kBratsClasses},
      {{"a = necrosis", "b = oedema", "c = enhancing"}, kBratsClasses},
      {{"a = necrosis + oedema", "b = oedema + enhancing", "c = enhancing"}, kBratsClasses},
      {{"organ=liver+tumour", "tumour=tumour"}, {"background", "liver", "tumour"}}};
  for (const auto& [entries, classes] : all) {
    const auto regions = parse_regions(entries, classes);
    for (std::size_t i = 0; i < classes.size(); ++i) {
      const auto label = static_cast<std::uint8_t>(i);
      std::uint8_t painted = 0;
      for (const auto& region : regions) {
        if (holds(region, label)) painted = region.painted;
      }
      EXPECT_EQ(painted, label) << entries.front() << " " << classes[i];
    }
  }
}

TEST(Regions, RefusesWhatIsNoRegion) {
  const auto error = [](const Names& entries, const Names& classes = kBratsClasses) {
    return test::error_of([&] { parse_regions(entries, classes); });
  };
  EXPECT_EQ(error({"XT"}), "data.regions: 'XT' is not WT, TC, ET or NAME=CLASS+CLASS");
  EXPECT_EQ(error({"core=necrosis+enhancin"}),
            "data.regions: 'core=necrosis+enhancin': there is no class 'enhancin' in data.classes "
            "(background, necrosis, oedema, enhancing); did you mean 'enhancing'?");
  EXPECT_THAT(error({"WT"}, {"background", "liver"}), HasSubstr("no class 'necrosis'"));
  EXPECT_EQ(error({"a=background+oedema"}),
            "data.regions: 'a=background+oedema' holds the background");
  EXPECT_EQ(error({"WT", "TC", "wt"}), "data.regions: there are two regions 'wt'");
  EXPECT_EQ(error({"=oedema"}), "data.regions: '=oedema' has no name");
}

TEST(Regions, RefusesWhatClassesDoNotFollowFrom) {
  const auto error = [](const Names& entries) {
    return test::error_of([&] { parse_regions(entries, kBratsClasses); });
  };
  EXPECT_THAT(error({"ET", "TC", "WT"}), HasSubstr("'ET' has no class that no later region holds"));
  EXPECT_EQ(error({"WT", "ET"}),
            "data.regions: only 'WT' tells necrosis and oedema from the rest, so they cannot be "
            "told apart: add a region of one of them after it");
  EXPECT_EQ(error({"TC", "ET"}), "data.regions: no region holds the class oedema");
}

TEST(Regions, RefusesMoreThanThereAreClasses) {
  Names entries;
  for (int i = 0; i < 256; ++i) entries.push_back("r" + std::to_string(i) + "=oedema");
  EXPECT_EQ(test::error_of([&] { parse_regions(entries, kBratsClasses); }),
            "data.regions: lists 256 regions; 255 are possible");
}

}  // namespace
}  // namespace segmamba::data
