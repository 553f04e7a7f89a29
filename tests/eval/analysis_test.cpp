#include "segmamba/eval/analysis.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>

#include "segmamba/core/parallel.h"
#include "segmamba/core/text.h"

namespace segmamba::eval {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

// One region under one convention; values[method][case].
Evaluation evaluation_of(const std::string& convention, const std::string& metric,
                         const std::vector<std::vector<double>>& values) {
  Evaluation evaluation;
  evaluation.conventions = {metrics::find_convention(convention)};
  evaluation.regions = {{"WT", {1, 2, 3}}};
  for (std::size_t c = 0; c < values.front().size(); ++c) {
    evaluation.cases.push_back(concat("case ", c));
  }
  for (std::size_t m = 0; m < values.size(); ++m) {
    const std::string method(1, static_cast<char>('A' + m));
    evaluation.methods.push_back({method, ""});
    for (std::size_t c = 0; c < evaluation.cases.size(); ++c) {
      evaluation.rows.push_back(
          {method, evaluation.cases[c], "WT", convention, metric, values[m][c]});
    }
  }
  return evaluation;
}

AnalysisOptions few_resamples() {
  AnalysisOptions options;
  options.resamples = 200;
  return options;
}

TEST(Analysis, SummariesSayWhatWasLeftOut) {
  Evaluation evaluation = evaluation_of("medpy", "hd95", {{0.1, kNan, 0.9, 5, 7}});
  evaluation.rows[4].scored = false;
  evaluation.rows[4].value = kNan;
  const Summary summary = analyse(evaluation, few_resamples()).summaries.at(0);
  EXPECT_DOUBLE_EQ(summary.mean, 2);
  EXPECT_DOUBLE_EQ(summary.median, 0.9);
  EXPECT_DOUBLE_EQ(summary.std, std::sqrt((1.9 * 1.9 + 1.1 * 1.1 + 9) / 3));
  EXPECT_DOUBLE_EQ(summary.q25, 0.5);
  EXPECT_DOUBLE_EQ(summary.q75, 2.95);
  EXPECT_EQ(summary.min, 0.1);
  EXPECT_EQ(summary.max, 5);
  EXPECT_GE(summary.mean_ci95.low, 0.1);
  EXPECT_LE(summary.mean_ci95.high, 5);
  EXPECT_EQ(summary.cases, 4);
  EXPECT_EQ(summary.nan, 1);
  EXPECT_EQ(summary.not_scored, 1);
  EXPECT_EQ(summary.inf, 0);
}

TEST(Analysis, InfiniteValuesShowInTheMean) {
  const Summary summary =
      analyse(evaluation_of("medpy", "hd95", {{1, kInfinity, 2}}), few_resamples()).summaries.at(0);
  EXPECT_EQ(summary.mean, kInfinity);
  EXPECT_EQ(summary.median, 2);
  EXPECT_EQ(summary.inf, 1);
  EXPECT_EQ(summary.mean_ci95.high, kInfinity);
}

TEST(Analysis, OfNothingIsNan) {
  const Summary summary =
      analyse(evaluation_of("medpy", "hd95", {{kNan}}), few_resamples()).summaries.at(0);
  EXPECT_TRUE(std::isnan(summary.mean));
  EXPECT_TRUE(std::isnan(summary.median));
  EXPECT_TRUE(std::isnan(summary.mean_ci95.low));
}

TEST(Analysis, ComparesOnCommonCases) {
  const Evaluation evaluation = evaluation_of(
      "medpy", "dice",
      {{0.9, 0.8, 0.7, kNan, 0.6}, {0.8, 0.6, 0.4, 0.1, 0.2}, {0.9, 0.8, 0.7, 0.5, kNan}});
  const auto comparisons = analyse(evaluation, few_resamples()).comparisons;
  ASSERT_EQ(comparisons.size(), 3u);
  EXPECT_EQ(comparisons[0].method_a, "A");
  EXPECT_EQ(comparisons[0].method_b, "B");
  EXPECT_EQ(comparisons[0].pairs, 4);
  EXPECT_DOUBLE_EQ(comparisons[0].mean_difference, 0.25);
  EXPECT_DOUBLE_EQ(comparisons[0].test.p, 0.125);
  EXPECT_DOUBLE_EQ(comparisons[0].p_holm, 0.375);
  EXPECT_GE(comparisons[0].difference_ci95.low, 0.1);
  EXPECT_EQ(comparisons[1].pairs, 3);  // A and C agree
  EXPECT_EQ(comparisons[1].test.p, 1);
  EXPECT_EQ(comparisons[1].test.zeros, 3);
  EXPECT_TRUE(analyse(evaluation_of("medpy", "dice", {{0.9, 0.8}})).comparisons.empty());
}

TEST(Analysis, NoComparisonWhereNeitherDirectionIsBetter) {
  const Evaluation evaluation = evaluation_of("medpy", "ravd", {{0.1, 0.2}, {0.2, 0.3}});
  EXPECT_TRUE(analyse(evaluation, few_resamples()).comparisons.empty());
}

TEST(Analysis, RanksAsTheChallengesDo) {
  Evaluation evaluation =
      evaluation_of("medpy", "dice", {{0.9, 0.5, 0.3}, {0.8, 0.5, kNan}, {0.7, 0.6, 0.2}});
  for (const Method& method : evaluation.methods) {
    for (const std::string& name : evaluation.cases) {
      const double distance = method.name == "A" ? 1 : method.name == "B" ? 1 : kInfinity;
      evaluation.rows.push_back({method.name, name, "WT", "medpy", "hd95", distance});
    }
  }
  std::stable_sort(evaluation.rows.begin(), evaluation.rows.end(), [](const Row& a, const Row& b) {
    return std::tie(a.method, a.case_name) < std::tie(b.method, b.case_name);
  });
  // Dice: A 1, 2.5, 1; B 2, 2.5, 3; C 3, 1, 2. HD95: A and B share 1.5, C is 3.
  const auto board = analyse(evaluation, few_resamples()).leaderboard;
  ASSERT_EQ(board.size(), 3u);
  EXPECT_EQ(board[0].method, "A");
  EXPECT_DOUBLE_EQ(board[0].mean_rank, (4.5 + 4.5) / 6);
  EXPECT_EQ(board[1].method, "B");
  EXPECT_DOUBLE_EQ(board[1].mean_rank, (7.5 + 4.5) / 6);
  EXPECT_DOUBLE_EQ(board[2].mean_rank, (6 + 9.0) / 6);
  EXPECT_EQ(board[2].mean_hd95, kInfinity);
  EXPECT_DOUBLE_EQ(board[1].mean_dice, 0.65);
}

TEST(Analysis, WorstCasesComeFirst) {
  AnalysisOptions options = few_resamples();
  options.worst = 2;
  const auto worst =
      analyse(evaluation_of("medpy", "dice", {{0.9, kNan, 0.2, 0.2}}), options).worst;
  ASSERT_EQ(worst.size(), 2u);
  EXPECT_EQ(worst[0].case_name, "case 2");
  EXPECT_EQ(worst[1].case_name, "case 3");
  EXPECT_EQ(worst[0].value, 0.2);
}

TEST(Analysis, DoesNotDependOnTheNumberOfThreads) {
  std::vector<std::vector<double>> values(3);
  for (int c = 0; c < 40; ++c) {
    for (int m = 0; m < 3; ++m) values[m].push_back(std::fmod(c * 0.37 + m * 0.11, 1));
  }
  const Evaluation evaluation = evaluation_of("medpy", "dice", values);
  const int threads = thread_count();
  set_thread_count(1);
  const Analysis one = analyse(evaluation, few_resamples());
  set_thread_count(4);
  const Analysis four = analyse(evaluation, few_resamples());
  set_thread_count(threads);
  for (std::size_t i = 0; i < one.summaries.size(); ++i) {
    EXPECT_EQ(one.summaries[i].mean_ci95.low, four.summaries[i].mean_ci95.low);
    EXPECT_EQ(one.comparisons[i].difference_ci95.high, four.comparisons[i].difference_ci95.high);
  }
}

}  // namespace
}  // namespace segmamba::eval
