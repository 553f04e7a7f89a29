#include "chart.h"

#include <gmock/gmock.h>

#include <cmath>
#include <limits>

namespace segmamba::engine {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using Look = ChartLine::Look;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

Series series_of(std::vector<double> values) {
  Series series;
  for (std::size_t i = 0; i < values.size(); ++i) {
    series.iterations.push_back(static_cast<double>(i + 1));
  }
  series.values = std::move(values);
  return series;
}

std::vector<std::string> labels(const Axis& axis) {
  std::vector<std::string> texts;
  for (const double tick : axis.ticks) texts.push_back(tick_label(tick, axis));
  return texts;
}

TEST(Reduction, KeepsExtremesInTheirPlaces) {
  Series series;
  for (int i = 1; i <= 100'000; ++i) {
    series.iterations.push_back(i);
    series.values.push_back(std::sin(i));
  }
  series.values[12'344] = 50;
  series.values[77'776] = -70;
  series.values[5] = kNan;
  series.values[99'998] = std::numeric_limits<double>::infinity();
  const Series few = extremes(series, 600);
  ASSERT_EQ(few.size(), 600u);
  EXPECT_TRUE(std::is_sorted(few.iterations.begin(), few.iterations.end()));
  const auto greatest = std::max_element(few.values.begin(), few.values.end());
  const auto least = std::min_element(few.values.begin(), few.values.end());
  EXPECT_EQ(*greatest, 50);
  EXPECT_EQ(few.iterations[static_cast<std::size_t>(greatest - few.values.begin())], 12'345);
  EXPECT_EQ(*least, -70);
  EXPECT_EQ(few.iterations[static_cast<std::size_t>(least - few.values.begin())], 77'777);
}

TEST(Reduction, LeavesShortSeriesAlone) {
  const Series series = series_of({3, kNan, 1, 2});
  EXPECT_THAT(extremes(series, 600).values, ElementsAre(3, 1, 2));
  EXPECT_THAT(extremes(series, 600).iterations, ElementsAre(1, 3, 4));
  EXPECT_THAT(means(series, 600).values, ElementsAre(3, 1, 2));
  EXPECT_TRUE(means({}, 600).empty());
}

TEST(Reduction, MeansOfEqualRuns) {
  const Series few = means(series_of({1, 3, 5, 7, 10, 20}), 3);
  EXPECT_THAT(few.values, ElementsAre(2, 6, 15));
  EXPECT_THAT(few.iterations, ElementsAre(1.5, 3.5, 5.5));
}

TEST(Axis, LinearTicksAreRoundAndEnclose) {
  EXPECT_THAT(labels(linear_axis(0.03, 0.88)), ElementsAre("0", "0.2", "0.4", "0.6", "0.8", "1.0"));
  EXPECT_THAT(labels(linear_axis(0, 250'000)),
              ElementsAre("0", "50k", "100k", "150k", "200k", "250k"));
  EXPECT_THAT(labels(linear_axis(0.861, 0.868)),
              ElementsAre("0.860", "0.862", "0.864", "0.866", "0.868"));
  EXPECT_THAT(labels(linear_axis(-0.5, 3)), ElementsAre("-1", "0", "1", "2", "3"));
  EXPECT_THAT(labels(linear_axis(0, 1e-4)),
              ElementsAre("0", "0.2e-4", "0.4e-4", "0.6e-4", "0.8e-4", "1.0e-4"));
  const Axis of_one_value = linear_axis(5, 5);
  EXPECT_LT(of_one_value.ticks.front(), 5);
  EXPECT_GT(of_one_value.ticks.back(), 5);
}

TEST(Axis, LogarithmicTicksArePowersOrBetween) {
  EXPECT_THAT(labels(logarithmic_axis(0.15, 7)),
              ElementsAre("0.1", "0.2", "0.5", "1", "2", "5", "10"));
  EXPECT_THAT(labels(logarithmic_axis(0.02, 300)),
              ElementsAre("0.01", "0.1", "1", "10", "100", "1000"));
  const Axis wide = logarithmic_axis(1e-9, 1e9);
  EXPECT_LE(wide.ticks.size(), 8u);
  EXPECT_LE(wide.ticks.front(), 1e-9);
  EXPECT_GE(wide.ticks.back(), 1e9);
  EXPECT_EQ(tick_label(1e-9, wide), "1e-9");
  EXPECT_DOUBLE_EQ(logarithmic_axis(0.01, 100).place(1), 0.5);
  EXPECT_DOUBLE_EQ(linear_axis(0, 10).place(5), 0.5);
}

TEST(Chart, DrawsEachValueWhereItIs) {
  const Chart chart{.title = "Loss", .lines = {{"every step", series_of({0, 10, 5})}}};
  const std::string html = to_html(chart, 3);
  // From (52, 226), the origin, to (548, 22).
  EXPECT_THAT(html, HasSubstr("d=\"M217.3 226.0 382.7 22.0 548.0 124.0\""));
  EXPECT_THAT(html, HasSubstr("<title>every step 10 at 2</title>"));
  EXPECT_THAT(html, Not(HasSubstr("(log)")));
}

TEST(Chart, IsLogarithmicWhereValuesSpanMuch) {
  Chart chart{.title = "Loss", .lines = {{"", series_of({1, 10, 100})}}};
  EXPECT_THAT(to_html(chart, 3), HasSubstr("(log)"));
  chart.lines[0].points = series_of({-1, 10, 100});
  EXPECT_THAT(to_html(chart, 3), Not(HasSubstr("(log)")));
  chart = {.title = "s", .lines = {{"", series_of({1, 10, 100})}}, .include = 0};
  EXPECT_THAT(to_html(chart, 3), Not(HasSubstr("(log)")));
}

TEST(Chart, WithoutAFiniteValueThereIsNone) {
  EXPECT_EQ(to_html({.title = "x"}, 10), "");
  EXPECT_EQ(to_html({.title = "x", .lines = {{"a", series_of({kNan})}}}, 10), "");
}

TEST(Chart, OneValueIsADotAndNamesAreEscaped) {
  const Chart chart{.title = "<b>", .lines = {{"\"<i>&", series_of({4}), 1, Look::kFaint}}};
  const std::string html = to_html(chart, 1);
  EXPECT_THAT(html, HasSubstr("<circle"));
  EXPECT_THAT(html, Not(HasSubstr("<path")));
  EXPECT_THAT(html, HasSubstr("<figcaption>&lt;b&gt;</figcaption>"));
  EXPECT_THAT(html, HasSubstr("&quot;&lt;i&gt;&amp;"));
  EXPECT_THAT(html, Not(HasSubstr("<i>&")));
}

}  // namespace
}  // namespace segmamba::engine
