#include "segmamba/eval/statistics.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "segmamba/core/error.h"
#include "segmamba/core/json.h"
#include "segmamba/core/random.h"
#include "segmamba/core/text.h"

namespace segmamba::eval {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// Values that scipy, numpy and statsmodels gave (their versions are in the file).
const Json& golden() {
  static const Json file = read_json(std::string(SEGMAMBA_TEST_DATA) + "/eval/stats.json");
  return file;
}

// "T2/A" is method A of the table whose name starts with T2.
std::vector<double> column(const std::string& table, const std::string& method) {
  for (const auto& [name, methods] : golden().at("tables").items()) {
    if (starts_with(name, table)) return methods.at(method).get<std::vector<double>>();
  }
  throw Error("no table " + table);
}

std::pair<std::vector<double>, std::vector<double>> pair_of(const std::string& name) {
  const auto slash = name.find('/'), minus = name.find('-');
  const std::string table = name.substr(0, slash);
  return {column(table, name.substr(slash + 1, minus - slash - 1)),
          column(table, name.substr(minus + 1))};
}

void expect_close(double value, double expected, const std::string& what) {
  EXPECT_NEAR(value, expected, 1e-10 * std::max(1.0, std::abs(expected))) << what;
}

TEST(Statistics, SummariesAreNumpys) {
  for (const auto& [name, values] : golden().at("summary").items()) {
    const auto list = column(name.substr(0, 2), name.substr(3));
    expect_close(mean(list), values.at("mean"), name);
    expect_close(standard_deviation(list), values.at("sd_ddof0"), name);
    expect_close(standard_deviation(list, true), values.at("sd_ddof1"), name);
    expect_close(quantile(list, 0.5), values.at("median"), name);
    expect_close(quantile(list, 0.25), values.at("q25"), name);
    expect_close(quantile(list, 0.75), values.at("q75"), name);
    expect_close(quantile(list, 0), values.at("min"), name);
    expect_close(quantile(list, 1), values.at("max"), name);
  }
}

TEST(Statistics, WilcoxonIsScipys) {
  int compared = 0;
  for (const auto& [name, values] : golden().at("paired").items()) {
    const auto [a, b] = pair_of(name);
    for (const auto& [key, expected] : values.at("wilcoxon").items()) {
      WilcoxonOptions options;
      if (starts_with(key, "pratt")) options.zeros = ZeroMethod::kPratt;
      if (starts_with(key, "zsplit")) options.zeros = ZeroMethod::kZsplit;
      if (key.find("/exact") != std::string::npos) options.distribution = NullDistribution::kExact;
      if (key.find("/approx") != std::string::npos) {
        options.distribution = NullDistribution::kNormal;
      }
      options.continuity = ends_with(key, "/continuity");
      const Wilcoxon test = wilcoxon_signed_rank(a, b, options);
      const std::string what = concat(name, " ", key);
      EXPECT_EQ(test.pairs, values.at("n").get<std::int64_t>()) << what;
      EXPECT_EQ(test.zeros, values.at("zeros").get<std::int64_t>()) << what;
      expect_close(test.statistic, expected.at("statistic"), what);
      EXPECT_NEAR(test.p / expected.at("p").get<double>(), 1, 1e-9) << what;
      if (expected.contains("z")) expect_close(test.z, expected.at("z"), what);
      ++compared;
    }
  }
  EXPECT_EQ(compared, 6 * 10);
}

TEST(Statistics, PairedTIsScipys) {
  for (const auto& [name, values] : golden().at("paired").items()) {
    const auto [a, b] = pair_of(name);
    const PairedT test = paired_t_test(a, b);
    const Json& expected = values.at("t_test");
    expect_close(test.t, expected.at("t"), name);
    expect_close(test.p, expected.at("p"), name);
    EXPECT_EQ(test.degrees_of_freedom, expected.at("df").get<std::int64_t>());
    expect_close(test.mean_difference_ci95.low, expected.at("ci95_mean_difference").at(0), name);
    expect_close(test.mean_difference_ci95.high, expected.at("ci95_mean_difference").at(1), name);
  }
}

TEST(Statistics, HolmIsStatsmodels) {
  const auto check = [](const Json& item) {
    const auto p = item.at("p").get<std::vector<double>>();
    const auto expected = item.at("p_holm").get<std::vector<double>>();
    const auto adjusted = holm(p);
    ASSERT_EQ(adjusted.size(), expected.size());
    for (std::size_t i = 0; i < p.size(); ++i) EXPECT_NEAR(adjusted[i], expected[i], 1e-12);
  };
  for (const char* key : {"exact", "approx", "t_test"}) check(golden().at("holm").at(key));
  for (const Json& item : golden().at("holm").at("hand_cases")) check(item);
  EXPECT_TRUE(holm({}).empty());
}

TEST(Statistics, BootstrapIntervalsAgreeWithLongRuns) {
  int compared = 0;
  for (const auto& [name, values] : golden().at("bootstrap_percentile").items()) {
    const std::string table = name.substr(name.find('T'), name.find('/') - name.find('T'));
    const std::string methods = name.substr(name.find('/') + 1, 3);
    std::vector<double> list = column(table, methods.substr(0, 1));
    if (methods[1] == '-') {
      const auto other = column(table, methods.substr(2));
      for (std::size_t i = 0; i < list.size(); ++i) list[i] -= other[i];
    }
    for (const std::int64_t resamples : {10000, 2000}) {
      const Bootstrap bootstrap(list.size(), resamples, 7);
      const Interval interval =
          starts_with(name, "median") ? bootstrap.of_median(list) : bootstrap.of_mean(list);
      const double tolerance = values.at(concat("tolerance_", resamples, "_resamples"));
      EXPECT_NEAR(interval.low, values.at("ci95").at(0).get<double>(), tolerance) << name;
      EXPECT_NEAR(interval.high, values.at("ci95").at(1).get<double>(), tolerance) << name;
      ++compared;
    }
  }
  EXPECT_EQ(compared, 5 * 2);
}

TEST(Statistics, QuantilesOfInfiniteValues) {
  EXPECT_EQ(quantile({1, kInfinity, kInfinity}, 0.75), kInfinity);
  EXPECT_EQ(quantile({1, 2, kInfinity}, 0.5), 2);
  EXPECT_EQ(quantile({1, 2, kInfinity}, 0.75), kInfinity);
  EXPECT_TRUE(std::isnan(quantile({}, 0.5)));
}

TEST(Bootstrap, DependsOnItsArgumentsAlone) {
  const auto list = column("T1", "A");
  const Interval first = Bootstrap(list.size(), 500, 3).of_mean(list);
  const Bootstrap other(list.size(), 500, 3);
  other.of_mean(column("T1", "B"));
  EXPECT_EQ(other.of_mean(list).low, first.low);
  EXPECT_EQ(other.of_mean(list).high, first.high);
  EXPECT_NE(Bootstrap(list.size(), 500, 4).of_mean(list).low, first.low);
}

TEST(Bootstrap, OfInfiniteAndFewValues) {
  std::vector<double> list(20, 1.0);
  list[3] = kInfinity;
  const Interval interval = Bootstrap(list.size(), 1000, 1).of_mean(list);
  EXPECT_EQ(interval.low, 1);  // a third of the resamples lack the infinite value
  EXPECT_EQ(interval.high, kInfinity);
  // Both signs: whatever their order, the interval is open to both sides.
  for (const auto& both : {std::vector<double>{kInfinity, -kInfinity, -kInfinity, -kInfinity},
                           std::vector<double>{-kInfinity, -kInfinity, -kInfinity, kInfinity}}) {
    const Interval open = Bootstrap(both.size(), 2000, 1).of_mean(both);
    EXPECT_EQ(open.low, -kInfinity);
    EXPECT_EQ(open.high, kInfinity);
  }
  EXPECT_TRUE(std::isnan(Bootstrap(1, 100, 1).of_mean(std::vector<double>{1}).low));
  EXPECT_THROW(Bootstrap(3, 10, 1).of_mean(list), Error);
}

TEST(Wilcoxon, HasTheSymmetriesOfATwoSidedTest) {
  Random random(5);
  for (int trial = 0; trial < 200; ++trial) {
    const auto n = static_cast<std::size_t>(2 + random.integer(60));
    std::vector<double> a(n), b(n);
    for (double& value : a) value = static_cast<double>(random.integer(9));
    for (double& value : b) value = static_cast<double>(random.integer(9));
    const Wilcoxon test = wilcoxon_signed_rank(a, b), swapped = wilcoxon_signed_rank(b, a);
    EXPECT_GE(test.p, 0);
    EXPECT_LE(test.p, 1);
    EXPECT_DOUBLE_EQ(test.p, swapped.p);
    EXPECT_EQ(test.statistic, swapped.statistic);
    std::reverse(a.begin(), a.end());
    std::reverse(b.begin(), b.end());
    EXPECT_DOUBLE_EQ(wilcoxon_signed_rank(a, b).p, test.p);
  }
}

TEST(Wilcoxon, OfEqualListsAndInfiniteValues) {
  const std::vector<double> list = {1, 2, kInfinity};
  EXPECT_EQ(wilcoxon_signed_rank(list, list).p, 1);
  EXPECT_EQ(wilcoxon_signed_rank({}, {}).p, 1);
  // An infinite difference has the largest rank.
  const std::vector<double> a = {1, 2, 3, kInfinity}, b = {0, 0, 0, 5};
  EXPECT_EQ(wilcoxon_signed_rank(a, b).positive_ranks, 10);
  EXPECT_DOUBLE_EQ(wilcoxon_signed_rank(a, b).p, 0.125);
  EXPECT_THROW(wilcoxon_signed_rank(a, list), Error);
}

TEST(Holm, IsMonotoneAndNotBelowTheRawValues) {
  Random random(6);
  for (int trial = 0; trial < 100; ++trial) {
    std::vector<double> p(static_cast<std::size_t>(1 + random.integer(12)));
    for (double& value : p) value = random.uniform();
    const auto adjusted = holm(p);
    for (std::size_t i = 0; i < p.size(); ++i) {
      EXPECT_GE(adjusted[i], p[i]);
      EXPECT_LE(adjusted[i], 1);
      for (std::size_t j = 0; j < p.size(); ++j) {
        if (p[i] < p[j]) {
          EXPECT_LE(adjusted[i], adjusted[j]);
        }
      }
    }
  }
}

TEST(PairedT, OfConstantDifferences) {
  const std::vector<double> a = {1, 2, 3}, b = {0, 1, 2};
  EXPECT_EQ(paired_t_test(a, a).p, 1);
  EXPECT_EQ(paired_t_test(a, b).p, 0);
  EXPECT_TRUE(std::isnan(paired_t_test(std::vector<double>{1}, std::vector<double>{2}).p));
}

}  // namespace
}  // namespace segmamba::eval
