#include "segmamba/post/postprocess_config.h"

#include <gmock/gmock.h>

#include "segmamba/core/error.h"
#include "segmamba/core/files.h"
#include "support/error_of.h"
#include "support/temporary_folder.h"

namespace segmamba::post {
namespace {

using test::error_of;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const std::vector<std::string> kClasses = {"background", "NCR", "edema", "ET"};

Rule one_rule(const PostprocessConfig& config, const std::vector<std::string>& classes = kClasses,
              const std::vector<std::string>& regions = {}) {
  const auto rules = make_rules(config, classes, regions);
  EXPECT_EQ(rules.size(), 1u);
  return rules.at(0);
}

TEST(PostprocessConfig, NothingIsDoneByDefault) {
  EXPECT_THAT(make_rules({}, kClasses), IsEmpty());
}

TEST(PostprocessConfig, RulesComeInTheOrderOfTheLists) {
  PostprocessConfig config;
  config.replace_below_ml = {"ET=0.3->necrosis"};
  config.remove_below_ml = {"WT=0.5", "ET = 0.1"};
  config.largest_only = {"TC=2"};
  config.fill_holes = {"WT"};
  config.connectivity = 6;
  const auto rules = make_rules(config, kClasses);
  std::vector<std::string> names;
  for (const Rule& rule : rules) {
    names.push_back(rule.name);
    EXPECT_EQ(rule.connectivity, metrics::Connectivity::kFaces);
  }
  EXPECT_THAT(names,
              ElementsAre("fill_holes: WT", "remove_below_ml: WT=0.5", "remove_below_ml: ET = 0.1",
                          "largest_only: TC=2", "replace_below_ml: ET=0.3->necrosis"));
  EXPECT_EQ(rules[0].kind, RuleKind::kFillHoles);
  EXPECT_EQ(rules[2].kind, RuleKind::kRemoveBelow);
  EXPECT_EQ(rules[2].millilitres, 0.1);
  EXPECT_EQ(rules[2].becomes, std::nullopt);
  EXPECT_EQ(rules[3].kind, RuleKind::kKeepLargest);
  EXPECT_EQ(rules[3].count, 2);
  EXPECT_EQ(rules[4].kind, RuleKind::kReplaceBelow);
  EXPECT_EQ(rules[4].becomes, 1);
}

TEST(PostprocessConfig, RegionsAreFoundByEveryName) {
  const auto labels = [](const std::string& name, const std::vector<std::string>& regions = {}) {
    PostprocessConfig config;
    config.fill_holes = {name};
    return one_rule(config, kClasses, regions).region.labels;
  };
  EXPECT_THAT(labels("WT"), ElementsAre(1, 2, 3));
  EXPECT_THAT(labels("tumor core"), ElementsAre(1, 3));
  EXPECT_THAT(labels("ET"), ElementsAre(3));
  EXPECT_THAT(labels("necrosis + oedema"), ElementsAre(1, 2));
  EXPECT_THAT(labels("2"), ElementsAre(2));
  EXPECT_THAT(labels("1+3"), ElementsAre(1, 3));
  EXPECT_THAT(labels("core", {"WT", "core=NCR+ET", "ET"}), ElementsAre(1, 3));
}

TEST(PostprocessConfig, LabelsFollowTheOrderOfTheClasses) {
  PostprocessConfig config;
  config.replace_below_ml = {"ET=1->necrosis"};
  const Rule rule = one_rule(config, {"background", "enhancing", "oedema", "necrosis"});
  EXPECT_THAT(rule.region.labels, ElementsAre(1));
  EXPECT_EQ(rule.becomes, 3);
}

TEST(PostprocessConfig, ErrorsNameKeyAndEntry) {
  using List = std::vector<std::string> PostprocessConfig::*;
  const auto error = [](List list, const std::string& entry) {
    PostprocessConfig config;
    config.*list = {entry};
    return error_of([&] { make_rules(config, kClasses); });
  };
  const List fill = &PostprocessConfig::fill_holes, largest = &PostprocessConfig::largest_only,
             remove = &PostprocessConfig::remove_below_ml,
             replace = &PostprocessConfig::replace_below_ml;
  EXPECT_EQ(error(remove, "ET"),
            "postprocess.remove_below_ml: 'ET': not REGION=ML, such as ET=0.1");
  EXPECT_EQ(error(remove, "=0.1"),
            "postprocess.remove_below_ml: '=0.1': not REGION=ML, such as ET=0.1");
  for (const char* entry : {"ET=0", "ET=-1", "ET=nan", "ET=0.1mL", "ET="}) {
    EXPECT_THAT(error(remove, entry), HasSubstr("is not a number above 0")) << entry;
  }
  EXPECT_EQ(error(replace, "ET=0.3"),
            "postprocess.replace_below_ml: 'ET=0.3': not REGION=ML->CLASS, such as "
            "ET=0.3->necrosis");
  EXPECT_EQ(error(replace, "TC=0.3->ET"),
            "postprocess.replace_below_ml: 'TC=0.3->ET': would change TC into a class of its own");
  EXPECT_EQ(error(largest, "WT=0"),
            "postprocess.largest_only: 'WT=0': not REGION or REGION=COUNT, such as WT");
  EXPECT_EQ(error(fill, "WT=1"), "postprocess.fill_holes: 'WT=1': not REGION, such as WT");
  EXPECT_EQ(error(fill, "WT->background"),
            "postprocess.fill_holes: 'WT->background': would fill holes with the background");
  EXPECT_EQ(error(fill, "background"),
            "postprocess.fill_holes: 'background': the background is no region");
  EXPECT_EQ(error(fill, "adema"),
            "postprocess.fill_holes: 'adema': there is no class 'adema' in data.classes "
            "(background, NCR, edema, ET); did you mean 'edema'?");
  EXPECT_THAT(error(fill, "4"), HasSubstr("there is no class '4'"));
  EXPECT_THAT(error(fill, "-1"), HasSubstr("there is no class '-1'"));
  PostprocessConfig config;
  config.connectivity = 8;
  EXPECT_EQ(error_of([&] { make_rules(config, kClasses); }),
            "postprocess.connectivity must be 6, 18 or 26, got 8");
}

TEST(PostprocessConfig, FileIsReadBackEqual) {
  const test::TemporaryFolder folder;
  PostprocessConfig config;
  config.fill_holes = {"WT", "ET->necrosis"};
  config.largest_only = {"TC=2"};
  config.remove_below_ml = {"ET=0.025"};
  config.replace_below_ml = {"ET=0.3->necrosis"};
  config.connectivity = 18;
  write_file_atomically(folder.path() / "post.yaml", to_yaml(config));
  const auto read = read_postprocess(folder.path() / "post.yaml");
  EXPECT_EQ(to_yaml(read), to_yaml(config));
  EXPECT_EQ(read.replace_below_ml, config.replace_below_ml);
}

TEST(PostprocessConfig, SectionOfAWholeConfigIsRead) {
  const test::TemporaryFolder folder;
  const auto path = folder.path() / "run.yaml";
  write_file_atomically(path, std::string("model:\n  name: segmamba\n"
                                          "postprocess:\n  remove_below_ml: [ET=0.1]\n"
                                          "  replace_below_ml: [ET=0.3->necrosis]\n"));
  EXPECT_THAT(read_postprocess(path).remove_below_ml, ElementsAre("ET=0.1"));
  EXPECT_THAT(read_postprocess(path).replace_below_ml, ElementsAre("ET=0.3->necrosis"));
  write_file_atomically(path, std::string("postprocess:\n  fill_hole: [WT]\n"));
  EXPECT_THAT(error_of([&] { read_postprocess(path); }),
              HasSubstr(":2: unknown key postprocess.fill_hole; did you mean fill_holes?"));
  write_file_atomically(path, std::string("fill_holes: [WT]\n"));
  EXPECT_THAT(error_of([&] { read_postprocess(path); }),
              HasSubstr("there is no section postprocess"));
}

}  // namespace
}  // namespace segmamba::post
