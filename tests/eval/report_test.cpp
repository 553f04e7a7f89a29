#include "segmamba/eval/report.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "segmamba/core/files.h"
#include "segmamba/core/version.h"
#include "support/temporary_folder.h"

namespace segmamba::eval {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

Evaluation two_cases() {
  Evaluation evaluation;
  evaluation.methods = {{"prediction", "runs/a"}};
  evaluation.conventions = {metrics::find_convention("medpy")};
  evaluation.regions = {{"WT", {1, 2, 3}}, {"ET", {3}}};
  evaluation.cases = {"a", "b,\"c\""};
  evaluation.rows = {
      {"prediction", "a", "WT", "medpy", "dice", 0.1},
      {"prediction", "a", "WT", "medpy", "hd95", 2},
      {"prediction", "a", "ET", "medpy", "dice", 1.0 / 3},
      {"prediction", "a", "ET", "medpy", "hd95", kNan},
      {"prediction", "b,\"c\"", "WT", "medpy", "dice", 0.9},
      {"prediction", "b,\"c\"", "WT", "medpy", "hd95", kInfinity},
      {"prediction", "b,\"c\"", "ET", "medpy", "dice", 1},
      {"prediction", "b,\"c\"", "ET", "medpy", "hd95", 4.5},
  };
  return evaluation;
}

TEST(Csv, ExactText) {
  EXPECT_EQ(cases_csv(two_cases()),
            "method,case,region,convention,metric,value\n"
            "prediction,a,WT,medpy,dice,0.10000000000000001\n"
            "prediction,a,WT,medpy,hd95,2\n"
            "prediction,a,ET,medpy,dice,0.33333333333333331\n"
            "prediction,a,ET,medpy,hd95,nan\n"
            "prediction,\"b,\"\"c\"\"\",WT,medpy,dice,0.90000000000000002\n"
            "prediction,\"b,\"\"c\"\"\",WT,medpy,hd95,inf\n"
            "prediction,\"b,\"\"c\"\"\",ET,medpy,dice,1\n"
            "prediction,\"b,\"\"c\"\"\",ET,medpy,hd95,4.5\n");
}

TEST(Summary, PopulationFiguresAndWhatWasLeftOut) {
  const auto summaries = summarise(two_cases().rows);
  ASSERT_EQ(summaries.size(), 4u);
  EXPECT_DOUBLE_EQ(summaries[0].mean, 0.5);
  EXPECT_DOUBLE_EQ(summaries[0].std, 0.4);
  EXPECT_DOUBLE_EQ(summaries[0].median, 0.5);
  EXPECT_EQ(summaries[1].mean, kInfinity);
  EXPECT_EQ(summaries[1].inf, 1);
  EXPECT_EQ(summaries[3].metric, "hd95");
  EXPECT_EQ(summaries[3].mean, 4.5);
  EXPECT_EQ(summaries[3].nan, 1);
  EXPECT_EQ(summaries[3].cases, 2);
}

TEST(Summary, MedianOfAnOddNumber) {
  std::vector<Row> rows;
  for (const double value : {5.0, 1.0, 2.0}) rows.push_back({"m", "c", "WT", "medpy", "hd", value});
  EXPECT_EQ(summarise(rows).at(0).median, 2);
  EXPECT_TRUE(std::isnan(summarise({{"m", "c", "WT", "medpy", "hd", kNan}}).at(0).mean));
}

TEST(Json, OfASummary) {
  const Json json = summary_json(two_cases());
  EXPECT_EQ(json.at("program"), "segmamba-eval " + version());
  EXPECT_EQ(json.at("cases"), 2);
  EXPECT_EQ(json.at("methods").at("prediction"), "runs/a");
  const Json& item = json.at("summary").at(3);
  EXPECT_EQ(item.dump(),
            R"({"method":"prediction","convention":"medpy","region":"ET","metric":"hd95",)"
            R"("mean":4.5,"std":0.0,"median":4.5,"n":1,"nan":1,"inf":0})");
  EXPECT_EQ(json.at("summary").at(1).at("mean"), "inf");
}

TEST(Table, Text) {
  EXPECT_EQ(table_text(two_cases()),
            "method      convention  Dice WT  Dice ET  Dice avg  HD95 WT  HD95 ET  HD95 avg\n"
            "prediction  medpy         50.00    66.67     58.33      inf     4.50       inf\n"
            "Mean over 2 cases; Dice in %, HD95 in mm.\n"
            "prediction medpy hd95 WT: 1 of 2 cases inf, kept: the mean is infinite\n"
            "prediction medpy hd95 ET: 1 of 2 cases nan, left out of mean, std and median\n");
}

TEST(Table, Markdown) {
  EXPECT_EQ(
      table_markdown(two_cases()),
      "| method | convention | Dice WT | Dice ET | Dice avg | HD95 WT | HD95 ET | HD95 avg |\n"
      "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |\n"
      "| prediction | medpy | 50.00 | 66.67 | 58.33 | inf | 4.50 | inf |\n"
      "\n"
      "- Mean over 2 cases; Dice in %, HD95 in mm.\n"
      "- prediction medpy hd95 WT: 1 of 2 cases inf, kept: the mean is infinite\n"
      "- prediction medpy hd95 ET: 1 of 2 cases nan, left out of mean, std and median\n");
}

TEST(Reports, AreWritten) {
  const test::TemporaryFolder folder;
  write_reports(two_cases(), folder.path() / "new" / "scores");
  EXPECT_EQ(read_file(folder.path() / "new/scores/cases.csv"), cases_csv(two_cases()));
  EXPECT_EQ(read_file(folder.path() / "new/scores/table.md"), table_markdown(two_cases()));
  EXPECT_EQ(read_json(folder.path() / "new/scores/summary.json"), summary_json(two_cases()));
}

}  // namespace
}  // namespace segmamba::eval
