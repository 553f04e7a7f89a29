#include "segmamba/eval/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "segmamba/core/error.h"
#include "segmamba/core/files.h"
#include "segmamba/core/version.h"
#include "support/temporary_folder.h"

namespace segmamba::eval {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

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

Analysis analysis_of(const Evaluation& evaluation) {
  AnalysisOptions options;
  options.resamples = 100;
  return analyse(evaluation, options);
}

// Two methods on one region; B is the better one.
Evaluation two_methods() {
  Evaluation evaluation;
  evaluation.methods = {{"A_1", "runs/a"}, {"B<&>\"'", "runs/b"}, {"C", "runs/c"}};
  evaluation.conventions = {metrics::find_convention("brats2023")};
  evaluation.regions = {{"ET", {3}}};
  evaluation.cases = {"x"};
  const double dice[] = {0.5, 0.75, 0.75}, lesion_dice[] = {0.25, 0.5, 0.125};
  for (std::size_t m = 0; m < 3; ++m) {
    const std::string& name = evaluation.methods[m].name;
    evaluation.rows.push_back({name, "x", "ET", "brats2023", "dice", dice[m]});
    evaluation.rows.push_back({name, "x", "ET", "brats2023", "lesion_dice", lesion_dice[m]});
  }
  evaluation.reference_ml["x"]["ET"] = 1.5;
  return evaluation;
}

Evaluation with_problem() {
  Evaluation evaluation = two_cases();
  evaluation.cases.emplace_back("</script><b>");
  for (const auto& region : evaluation.regions) {
    for (const char* metric : {"dice", "hd95"}) {
      evaluation.rows.push_back(
          {"prediction", "</script><b>", region.name, "medpy", metric, kNan, false});
    }
  }
  evaluation.problems = {
      {ProblemKind::kGeometry, "prediction", "</script><b>", "origin differs, by 10 mm", true}};
  return evaluation;
}

TEST(Json, OfASummary) {
  const Evaluation evaluation = two_cases();
  const Json json = summary_json(evaluation, analysis_of(evaluation));
  EXPECT_EQ(json.at("program"), "segmamba-eval " + version());
  EXPECT_EQ(json.at("cases"), 2);
  EXPECT_EQ(json.at("settings").at("methods").at("prediction"), "runs/a");
  EXPECT_EQ(json.at("settings").at("bootstrap").at("resamples"), 100);
  const Json& item = json.at("summary").at(3);
  EXPECT_EQ(item.dump(),
            R"({"method":"prediction","convention":"medpy","region":"ET","metric":"hd95",)"
            R"("mean":4.5,"std":0.0,"median":4.5,"q25":4.5,"q75":4.5,"min":4.5,"max":4.5,)"
            R"("mean_ci95":["nan","nan"],"n":1,"nan":1,"inf":0,"not_scored":0})");
  EXPECT_EQ(json.at("summary").at(1).at("mean"), "inf");
}

TEST(Json, OfComparisonsAndProblems) {
  const Evaluation evaluation = two_methods();
  const Json json = summary_json(evaluation, analysis_of(evaluation));
  EXPECT_EQ(json.at("comparisons").size(), 2u * 3);
  EXPECT_EQ(json.at("comparisons").at(0).at("mean_difference"), -0.25);
  EXPECT_EQ(json.at("leaderboard").at(0).at("method"), "B<&>\"'");
  const Evaluation other = with_problem();
  const Json problems = summary_json(other, analysis_of(other)).at("problems");
  EXPECT_EQ(problems.at(0).at("kind"), "geometry");
  EXPECT_EQ(problems.at(0).at("scored"), false);
}

TEST(Csv, OfProblems) {
  EXPECT_EQ(problems_csv(with_problem()),
            "kind,method,case,scored,text\n"
            "geometry,prediction,</script><b>,no,\"origin differs, by 10 mm\"\n");
}

TEST(Table, Text) {
  const Evaluation evaluation = two_cases();
  EXPECT_EQ(
      table_text(evaluation, analysis_of(evaluation)),
      "method      convention  WT Dice  WT HD95  ET Dice  ET HD95  avg Dice  avg HD95\n"
      "prediction  medpy         50.00      inf    66.67     4.50     58.33       inf\n"
      "Mean over 2 cases (nan left out, inf kept); Dice in %, HD95 in mm.\n"
      "prediction medpy hd95 WT: 1 of 2 cases inf, kept: the mean is infinite\n"
      "prediction medpy hd95 ET: 1 of 2 cases nan, left out of mean, std and median\n"
      "\n"
      "Worst cases\n"
      "method      convention  case   mean Dice\n"
      "prediction  medpy       a          21.67\n"
      "prediction  medpy       b,\"c\"      95.00\n"
      "By the mean over regions of Dice (of lesion-wise Dice where the convention has it).\n");
}

TEST(Table, SaysWhichCasesWereNotScored) {
  const Evaluation evaluation = with_problem();
  EXPECT_THAT(table_text(evaluation, analysis_of(evaluation)),
              HasSubstr("prediction: 1 of 3 cases not scored and left out of its means: "
                        "</script><b>\n"));
  EXPECT_THAT(table_markdown(evaluation, analysis_of(evaluation)),
              HasSubstr("| prediction | \\</script>\\<b> | geometry | no | "
                        "origin differs, by 10 mm |\n"));
}

TEST(Table, MarkdownMarksTheBestAndTheSecond) {
  const Evaluation evaluation = two_methods();
  const std::string text = table_markdown(evaluation, analysis_of(evaluation));
  EXPECT_THAT(text,
              StartsWith("## Dice and HD95\n\n"
                         "| method | convention | ET Dice | ET HD95 | avg Dice | avg HD95 |\n"
                         "| --- | --- | ---: | ---: | ---: | ---: |\n"
                         "| A\\_1 | brats2023 | <u>50.00</u> | - | <u>50.00</u> | - |\n"
                         "| B\\<&>\"' | brats2023 | **75.00** | - | **75.00** | - |\n"
                         "| C | brats2023 | **75.00** | - | **75.00** | - |\n"
                         "| A\\_1 | brats2023 lesion-wise | <u>25.00</u> | - | <u>25.00</u> | - |\n"
                         "| B\\<&>\"' | brats2023 lesion-wise | **50.00** | - | **50.00** | - |\n"
                         "| C | brats2023 lesion-wise | 12.50 | - | 12.50 | - |\n\n"
                         "- Mean over 1 case (nan left out, inf kept); Dice in %, HD95 in mm.\n"));
}

TEST(Table, LatexHasTheShapeOfThePapersTable) {
  const Evaluation evaluation = two_methods();
  EXPECT_EQ(table_latex(evaluation, analysis_of(evaluation)),
            R"(% needs \usepackage{booktabs}
\begin{table}
  \centering\small
  \setlength{\tabcolsep}{4pt}
  \caption{Segmentation scores. Mean over 1 case (nan left out, inf kept); Dice in \%, HD95 in mm.}
  \begin{tabular}{llrrrr}
    \toprule
    Method & Convention & \multicolumn{2}{c}{ET} & \multicolumn{2}{c}{Avg} \\
    \cmidrule(lr){3-4}\cmidrule(lr){5-6}
    &  & Dice$\uparrow$ & HD95$\downarrow$ & Dice$\uparrow$ & HD95$\downarrow$ \\
    \midrule
    A\_1 & brats2023 & \underline{50.00} & - & \underline{50.00} & - \\
    B\textless{}\&\textgreater{}"' & brats2023 & \textbf{75.00} & - & \textbf{75.00} & - \\
    C & brats2023 & \textbf{75.00} & - & \textbf{75.00} & - \\
    \midrule
    A\_1 & brats2023 lesion-wise & \underline{25.00} & - & \underline{25.00} & - \\
    B\textless{}\&\textgreater{}"' & brats2023 lesion-wise & \textbf{50.00} & - & \textbf{50.00} & - \\
    C & brats2023 lesion-wise & 12.50 & - & 12.50 & - \\
    \bottomrule
  \end{tabular}
\end{table}
)");
}

TEST(Table, LatexOfOneConventionNamesItInTheCaption) {
  const Evaluation evaluation = two_cases();
  const std::string text = table_latex(evaluation, analysis_of(evaluation));
  EXPECT_THAT(text, HasSubstr("Segmentation scores by the convention medpy. Mean over 2 cases"));
  EXPECT_THAT(text, HasSubstr(R"(\begin{tabular}{lrrrrrr}
    \toprule
    Method & \multicolumn{2}{c}{WT} & \multicolumn{2}{c}{ET} & \multicolumn{2}{c}{Avg} \\
    \cmidrule(lr){2-3}\cmidrule(lr){4-5}\cmidrule(lr){6-7}
     & Dice$\uparrow$ & HD95$\downarrow$ & Dice)"));
  EXPECT_THAT(text, HasSubstr("    prediction & 50.00 & inf & 66.67 & 4.50 & 58.33 & inf \\\\\n"));
}

TEST(Table, OfMetricsOtherThanDiceAndHd95) {
  Evaluation evaluation = two_cases();
  evaluation.conventions = {metrics::with_metrics(metrics::find_convention("medpy"), {"iou"})};
  evaluation.rows = {{"prediction", "a", "WT", "medpy", "iou", 0.25},
                     {"prediction", "b,\"c\"", "WT", "medpy", "iou", 0.75},
                     {"prediction", "a", "ET", "medpy", "iou", 1},
                     {"prediction", "b,\"c\"", "ET", "medpy", "iou", 1}};
  EXPECT_EQ(table_text(evaluation, analysis_of(evaluation)),
            "Other metrics, mean ± standard deviation over cases\n"
            "method      convention  metric             WT             ET\n"
            "prediction  medpy       iou     0.500 ± 0.250  1.000 ± 0.000\n");
}

TEST(Table, PrefersTheSoundHd95OfBrats2024) {
  Evaluation evaluation = two_cases();
  evaluation.conventions = {metrics::find_convention("brats2024")};
  evaluation.regions = {{"WT", {1, 2, 3}}};
  evaluation.cases = {"a"};
  evaluation.rows = {{"prediction", "a", "WT", "brats2024", "hd95", 99},
                     {"prediction", "a", "WT", "brats2024", "hd95_of_masks", 3}};
  const std::string text = table_text(evaluation, analysis_of(evaluation));
  EXPECT_THAT(text, HasSubstr("brats2024         -     3.00"));
  EXPECT_THAT(text, HasSubstr("the script's own number is hd95"));
}

TEST(Html, IsOnePageWithEverythingInIt) {
  Evaluation evaluation = two_methods();
  evaluation.pictures = {{"A_1", "x", "abcd"}, {"C", "x", "abc"}};
  const std::string page = report_html(evaluation, analysis_of(evaluation));
  EXPECT_EQ(page, report_html(evaluation, analysis_of(evaluation)));
  for (const char* outside : {"src=\"http", "href=\"http", "url(", "@import", "<link"}) {
    EXPECT_THAT(page, Not(HasSubstr(outside)));
  }
  EXPECT_THAT(page, HasSubstr("B&lt;&amp;&gt;&quot;&#39;"));
  EXPECT_THAT(page, HasSubstr("\"pictures\":[{\"0\":\"YWJjZA==\"},{},{\"0\":\"YWJj\"}]"));
  EXPECT_THAT(page, HasSubstr("\"volumes\":[[1.5]]"));
  EXPECT_THAT(page, HasSubstr("3-fold dilations"));
}

TEST(Html, HoldsNoMarkupOfTheInput) {
  Evaluation evaluation = with_problem();
  evaluation.cases[0] = "caf\xe9";  // no UTF-8
  for (Row& row : evaluation.rows) {
    if (row.case_name == "a") row.case_name = evaluation.cases[0];
  }
  const std::string page = report_html(evaluation, analysis_of(evaluation));
  EXPECT_THAT(page, HasSubstr("caf\xEF\xBF\xBD"));
  EXPECT_THAT(page, HasSubstr("\\u003c/script>\\u003cb>"));
  EXPECT_THAT(page, Not(HasSubstr("</script><b>")));
  EXPECT_THAT(page, HasSubstr("1 problem of the input"));
}

TEST(Reports, AreWritten) {
  const test::TemporaryFolder folder;
  const auto scores = folder.path() / "new" / "scores";
  const Evaluation evaluation = with_problem();
  const Analysis analysis = analysis_of(evaluation);
  EXPECT_FALSE(holds_reports(scores));
  write_reports(evaluation, analysis, scores);
  EXPECT_TRUE(holds_reports(scores));
  EXPECT_EQ(read_file(scores / "cases.csv"), cases_csv(evaluation));
  EXPECT_EQ(read_file(scores / "problems.csv"), problems_csv(evaluation));
  EXPECT_EQ(read_file(scores / "table.md"), table_markdown(evaluation, analysis));
  EXPECT_EQ(read_file(scores / "table.tex"), table_latex(evaluation, analysis));
  EXPECT_EQ(read_file(scores / "report.html"), report_html(evaluation, analysis));
  EXPECT_EQ(read_json(scores / "summary.json"), summary_json(evaluation, analysis));
  // Nothing of the earlier evaluation stays.
  write_reports(two_cases(), analysis_of(two_cases()), scores, false);
  EXPECT_FALSE(std::filesystem::exists(scores / "problems.csv"));
  EXPECT_FALSE(std::filesystem::exists(scores / "report.html"));
}

// A folder in the way of one file stands for a disk that fails there.
TEST(Reports, AreOfOneEvaluationWhereTheyAreCutOff) {
  const test::TemporaryFolder folder;
  const Evaluation before = with_problem(), after = two_cases();
  write_reports(before, analysis_of(before), folder.path());
  std::filesystem::remove(folder.path() / "table.tex");
  std::filesystem::create_directory(folder.path() / "table.tex");
  EXPECT_THROW(write_reports(after, analysis_of(after), folder.path()), Error);
  EXPECT_FALSE(std::filesystem::exists(folder.path() / "cases.csv"));
  EXPECT_FALSE(holds_reports(folder.path()));
  std::filesystem::remove(folder.path() / "table.tex");
  write_reports(after, analysis_of(after), folder.path());
  EXPECT_TRUE(holds_reports(folder.path()));
  EXPECT_EQ(read_file(folder.path() / "cases.csv"), cases_csv(after));
  EXPECT_FALSE(std::filesystem::exists(folder.path() / "problems.csv"));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 5);
}

}  // namespace
}  // namespace segmamba::eval
