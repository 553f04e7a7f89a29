#include "segmamba/eval/published.h"

#include <gmock/gmock.h>

#include <cmath>

#include "scene.h"
#include "segmamba/eval/report.h"
#include "support/error_of.h"
#include "support/temporary_folder.h"

namespace segmamba::eval {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;

class Published : public ::testing::Test {
 protected:
  PublishedScores read(const std::string& text) {
    testing::write_text(path_, text);
    return read_published(path_);
  }
  std::string error_of(const std::string& text) {
    return test::error_of([&] { read(text); });
  }

  test::TemporaryFolder folder_;
  std::filesystem::path path_ = folder_.path() / "paper.csv";
};

TEST_F(Published, IsReadByRegion) {
  const auto published = read("method,WT Dice,WT HD95,avg Dice\nU-Net,91.5,,88\n\"A, B\",90,4,\n");
  EXPECT_EQ(published.source, "paper");
  ASSERT_EQ(published.methods.size(), 2U);
  EXPECT_EQ(published.methods[0].name, "U-Net");
  EXPECT_EQ(published.methods[0].scores.at("WT").first, 91.5);
  EXPECT_TRUE(std::isnan(published.methods[0].scores.at("WT").second));
  EXPECT_EQ(published.methods[0].scores.at("avg").first, 88);
  EXPECT_EQ(published.methods[1].scores.at("WT").second, 4);
}

// What table1_test.sh holds to the names of the methods here.
TEST_F(Published, TheTableOfThePaperIsRead) {
  const auto published = read_published(SEGMAMBA_SOURCE_DIR "/configs/table1/paper.csv");
  ASSERT_EQ(published.methods.size(), 8U);
  for (const auto& method : published.methods) {
    const auto& scores = method.scores;
    ASSERT_EQ(scores.size(), 4U) << method.name;
    const auto mean = [&](auto number) {
      return (scores.at("WT").*number + scores.at("TC").*number + scores.at("ET").*number) / 3;
    };
    // Rounded to two digits, as they are.
    using Score = std::pair<double, double>;
    EXPECT_NEAR(scores.at("avg").first, mean(&Score::first), 0.011) << method.name;
    // The paper's own average is 0.1 below the mean of its three.
    const double slip = method.name == "SwinUNETR-V2" ? 0.1 : 0;
    EXPECT_NEAR(scores.at("avg").second, mean(&Score::second) - slip, 0.011) << method.name;
  }
  EXPECT_EQ(published.methods[7].name, "SegMamba");
  EXPECT_EQ(published.methods[7].scores.at("WT"), std::pair(93.61, 3.37));
}

TEST_F(Published, DamagedFilesAreRefused) {
  EXPECT_THAT(error_of("name,WT Dice\n"), HasSubstr("paper.csv:1: the first column must be"));
  EXPECT_THAT(error_of("method,WT\n"), EndsWith("column \"WT\" is neither REGION Dice nor REGION "
                                                "HD95"));
  EXPECT_THAT(error_of("method,WT Dice\nU-Net,9l\n"), EndsWith("paper.csv:2: \"9l\" is no score"));
  EXPECT_THAT(error_of("method,WT Dice\nU-Net,nan\n"), HasSubstr("is no score"));
  EXPECT_THAT(error_of("method,WT Dice\nU-Net,-1\n"), HasSubstr("is no score"));
}

// Each number takes a hundred bytes, and with it the name of its region.
TEST_F(Published, TablesThatAreNoneAreRefused) {
  std::string rows;
  for (int i = 0; i < 50'000; ++i) rows += "a,\n";
  EXPECT_EQ(read("method,WT Dice\n" + rows).methods.size(), 50'000U);
  EXPECT_EQ(error_of("method,WT Dice\n" + rows + "a,\n"),
            path_.string() + ": has more than 100000 fields");
  const std::string name(200, 'r');
  EXPECT_EQ(read("method," + name + " HD95\na,1\n").methods[0].scores.at(name).second, 1);
  EXPECT_EQ(error_of("method," + name + "r HD95\na,1\n"),
            path_.string() + ":1: the name of a region has 201 bytes; 200 are possible");
}

TEST_F(Published, StandsBelowWhatWasMeasured) {
  Evaluation evaluation;
  evaluation.methods = {{"ours", "runs/a"}};
  evaluation.conventions = {metrics::find_convention("medpy")};
  evaluation.regions = {{"WT", {1, 2, 3}}};
  evaluation.cases = {"a"};
  evaluation.rows = {{"ours", "a", "WT", "medpy", "dice", 0.5},
                     {"ours", "a", "WT", "medpy", "hd95", 2}};
  evaluation.published = {
      read("method,WT Dice,WT HD95,avg Dice,avg HD95\nU-Net,91.5,3,91.5,3\nV-Net,92,,92,\n")};
  const auto text = table_text(evaluation, analyse(evaluation, {.resamples = 0}));
  EXPECT_THAT(text,
              ::testing::StartsWith("method  convention  WT Dice  WT HD95  avg Dice  avg HD95\n"
                                    "ours    medpy         50.00     2.00     50.00      2.00\n"
                                    "U-Net   paper         91.50     3.00     91.50      3.00\n"
                                    "V-Net   paper         92.00        -     92.00         -\n"));
  EXPECT_THAT(text, HasSubstr("paper: numbers that were published, not measured here."));
  EXPECT_THAT(table_markdown(evaluation, analyse(evaluation, {.resamples = 0})),
              HasSubstr("| V-Net | paper | **92.00** | - | **92.00** | - |"));
}

}  // namespace
}  // namespace segmamba::eval
