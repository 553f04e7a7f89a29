#include "segmamba/eval/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "segmamba/core/error.h"
#include "segmamba/core/files.h"
#include "segmamba/core/text.h"
#include "support/temporary_folder.h"

namespace segmamba::eval {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

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
  EXPECT_EQ(parse_regions({}).regions.size(), 3u);
  EXPECT_THAT(parse_regions({}).known_labels, ElementsAre(1, 2, 3, 4));
  EXPECT_THAT(parse_regions({"ET"}).known_labels, ElementsAre(1, 2, 3, 4));
  EXPECT_TRUE(parse_regions({"labels"}).each_label);
  const auto set = parse_regions({"ET,RC", "liver=5+17"});
  ASSERT_EQ(set.regions.size(), 3u);
  EXPECT_THAT(set.regions[0].labels, ElementsAre(3));
  EXPECT_THAT(set.regions[1].labels, ElementsAre(4));
  EXPECT_EQ(set.regions[2].name, "liver");
  EXPECT_THAT(set.regions[2].labels, ElementsAre(5, 17));
  EXPECT_TRUE(set.known_labels.empty());
  for (const char* text :
       {"XY", "a=", "a=0", "a=256", "a=1x", "=1", "ET,ET", "ET,labels", "ET,a.yaml"}) {
    EXPECT_THROW(parse_regions({text}), UsageError) << text;
  }
}

class RegionFile : public ::testing::Test {
 protected:
  RegionSet read(const std::string& text) {
    const auto path = folder_.path() / "regions.yaml";
    write_file_atomically(path, text);
    return parse_regions({path.string()});
  }
  std::string message(const std::string& text) {
    try {
      read(text);
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  }
  test::TemporaryFolder folder_;
};

TEST_F(RegionFile, KeepsItsOrder) {
  const RegionSet set = read("regions:\n  tumour: [2]\n  kidney: [1, 2]\nlabels: [1, 2, 3]\n");
  ASSERT_EQ(set.regions.size(), 2u);
  EXPECT_EQ(set.regions[0].name, "tumour");
  EXPECT_EQ(set.regions[1].name, "kidney");
  EXPECT_THAT(set.regions[1].labels, ElementsAre(1, 2));
  EXPECT_THAT(set.known_labels, ElementsAre(1, 2, 3));
  EXPECT_TRUE(read("regions: {a: [1]}").known_labels.empty());
}

TEST_F(RegionFile, SaysWhatIsWrongWhere) {
  EXPECT_THAT(message("regions:\n  a: [1]\n  b: [256]\n"), HasSubstr("regions.yaml:3: "));
  EXPECT_THAT(message("regions:\n  a: []\n"), HasSubstr("regions.yaml:2: "));
  EXPECT_THAT(message("regions:\n  a: [x]\n"), HasSubstr("regions.yaml:2: "));
  EXPECT_THAT(message("region:\n  a: [1]\n"), HasSubstr("no regions; expected e.g."));
  EXPECT_THAT(message("regions: {a: [1]}\nlabel: [1]\n"),
              AllOf(HasSubstr("regions.yaml:2: "), HasSubstr("labels")));
  EXPECT_THAT(message("regions: {a: [1, 5]}\nlabels: [1]\n"),
              HasSubstr("region a has label 5, which `labels` lacks"));
  EXPECT_THROW(parse_regions({(folder_.path() / "absent.yaml").string()}), Error);
  std::string many = "regions:\n";
  for (int i = 0; i < 1001; ++i) many += concat("  r", i, ": [1]\n");
  EXPECT_THAT(message(many), HasSubstr("regions.yaml: has more than 1000 regions"));
}

TEST(Options, Metrics) {
  auto conventions = parse_conventions({"segmamba,medpy"});
  EXPECT_TRUE(parse_metrics({}, conventions).empty());
  EXPECT_EQ(conventions[0].metrics.size(), 2u);
  EXPECT_THAT(parse_metrics({"dice,nsd_2mm", "ravd"}, conventions),
              ElementsAre("dice", "nsd_2mm", "ravd"));
  EXPECT_EQ(conventions[0].metrics.size(), 3u);  // ravd is MedPy's alone
  EXPECT_EQ(conventions[1].metrics.size(), 11u);
  EXPECT_THROW(parse_metrics({"dise"}, conventions), UsageError);
  EXPECT_TRUE(parse_metrics({"all"}, conventions).empty());
  EXPECT_EQ(conventions[0].metrics.size(), metrics::general_metrics().size() + 1);  // nsd_2mm
}

TEST(Options, LabelFour) {
  EXPECT_EQ(parse_label_four("auto"), LabelFour::kAuto);
  EXPECT_EQ(parse_label_four("et"), LabelFour::kEnhancing);
  EXPECT_EQ(parse_label_four("keep"), LabelFour::kKeep);
  EXPECT_THROW(parse_label_four("4"), UsageError);
}

}  // namespace
}  // namespace segmamba::eval
