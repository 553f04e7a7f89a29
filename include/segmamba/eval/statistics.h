#pragma once
// Statistics of lists of numbers: descriptive, bootstrap intervals, paired tests. Free of cases and
// files. Conventions are those of scipy and numpy; the golden values of the tests were made by
// them.

#include <cstdint>
#include <span>
#include <vector>

namespace segmamba::eval {

// Infinite values make the mean infinite (nan for both signs) and the standard deviation nan.
double mean(std::span<const double> values);
// Of the population (n) or of a sample (n - 1).
double standard_deviation(std::span<const double> values, bool of_sample = false);
// Linear between ranks (numpy's default), share in [0, 1]. Equal neighbours are not interpolated,
// so that infinite values stay what they are. nan for no values.
double quantile(std::vector<double> values, double share);

struct Interval {
  double low = 0, high = 0;
};

// Resampling with replacement of lists of one length. The draws depend on (length, resamples, seed)
// alone, so that two lists of the same cases are resampled together. Holds 2 bytes for each value
// and resample.
class Bootstrap {
 public:
  Bootstrap(std::size_t length, std::int64_t resamples, std::uint64_t seed);
  std::size_t length() const { return length_; }

  // 95 % percentile interval of the mean. A resample that holds an infinite value has an infinite
  // mean; one that holds both signs has none, and widens the interval to both sides. nan for fewer
  // than two values.
  Interval of_mean(std::span<const double> values) const;
  // The same of the median.
  Interval of_median(std::span<const double> values) const;

 private:
  template <class Statistic>
  Interval interval(Statistic statistic) const;

  std::size_t length_;
  std::int64_t resamples_;
  std::vector<std::uint16_t> counts_;  // [resamples, length]: how often a value was drawn
};

enum class ZeroMethod {
  kWilcox,  // equal pairs are dropped
  kPratt,   // ranked, then not counted
  kZsplit,  // ranked, half to each side
};
enum class NullDistribution {
  kDefault,  // exact for at most 50 untied pairs; with ties or equal pairs all flips of signs for
             // at most 13 pairs; else normal
  kExact,    // that of untied ranks, whatever the data
  kNormal,
};
struct WilcoxonOptions {
  ZeroMethod zeros = ZeroMethod::kWilcox;
  NullDistribution distribution = NullDistribution::kDefault;
  bool continuity = false;
};
// Wilcoxon's signed-rank test, paired and two-sided (scipy.stats.wilcoxon). Differences are not
// rounded: equal decimals may differ in the last bit, and are then no ties. Two equal infinite
// values differ by 0. nan is not allowed.
struct Wilcoxon {
  std::int64_t pairs = 0, zeros = 0;
  double positive_ranks = 0;  // rank sum of a > b
  double statistic = 0;       // the smaller of the two rank sums
  double z = 0;               // nan unless the normal distribution was used
  double p = 1;               // 1 where no pair differs
};
Wilcoxon wilcoxon_signed_rank(std::span<const double> a, std::span<const double> b,
                              const WilcoxonOptions& options = {});

// Student's paired t-test, two-sided. nan for fewer than two pairs and for infinite differences.
struct PairedT {
  double t = 0, p = 1;
  std::int64_t degrees_of_freedom = 0;
  Interval mean_difference_ci95;  // of a - b
};
PairedT paired_t_test(std::span<const double> a, std::span<const double> b);

// Adjusted p-values of a family of tests, in the order given (Holm 1979).
std::vector<double> holm(std::span<const double> p);

}  // namespace segmamba::eval
