#include "segmamba/eval/statistics.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>

#include "segmamba/core/error.h"
#include "segmamba/core/random.h"
#include "segmamba/core/text.h"

namespace segmamba::eval {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

double sorted_quantile(const std::vector<double>& sorted, double share) {
  if (sorted.empty()) return kNan;
  const double rank = share * static_cast<double>(sorted.size() - 1);
  const auto low = static_cast<std::size_t>(rank);
  const double a = sorted[low], b = sorted[std::min(low + 1, sorted.size() - 1)];
  const double weight = rank - static_cast<double>(low);
  if (a == b || weight == 0) return a;
  if (std::isinf(a) || std::isinf(b)) return std::isinf(a) ? a : b;
  // Either end as the base, so that the result is exact at both (numpy does the same).
  return weight < 0.5 ? a + (b - a) * weight : b - (b - a) * (1 - weight);
}

void check_paired(std::span<const double> a, std::span<const double> b) {
  if (a.size() == b.size()) return;
  throw Error(concat("a paired test needs lists of one length, got ", a.size(), " and ", b.size()));
}

double difference(double a, double b) { return a == b ? 0 : a - b; }

double normal_tail(double z) { return 0.5 * std::erfc(z / std::sqrt(2.0)); }

// Absolute differences with their mean ranks, ascending.
struct Ranked {
  double size, rank;
  bool positive;
};

std::vector<Ranked> rank_differences(std::vector<double> differences) {
  std::sort(differences.begin(), differences.end(),
            [](double a, double b) { return std::abs(a) < std::abs(b); });
  std::vector<Ranked> ranked;
  for (std::size_t first = 0; first < differences.size();) {
    std::size_t last = first;
    while (last < differences.size() &&
           std::abs(differences[last]) == std::abs(differences[first])) {
      ++last;
    }
    const double rank = static_cast<double>(first + 1 + last) / 2;
    for (; first < last; ++first) {
      ranked.push_back({std::abs(differences[first]), rank, differences[first] > 0});
    }
  }
  return ranked;
}

// P(sum of a random subset of 1..n <= limit), each subset equally likely.
double rank_sum_at_most(std::int64_t n, double limit) {
  const auto largest = static_cast<std::size_t>(n * (n + 1) / 2);
  std::vector<double> probability(largest + 1);
  probability[0] = 1;
  std::size_t reach = 0;
  for (std::int64_t item = 1; item <= n; ++item) {
    const auto step = static_cast<std::size_t>(item);
    reach += step;
    for (std::size_t sum = reach + 1; sum-- > 0;) {
      const double with = sum >= step ? probability[sum - step] : 0;
      probability[sum] = (probability[sum] + with) / 2;
    }
  }
  double total = 0;
  for (std::size_t sum = 0; sum <= largest && static_cast<double>(sum) <= limit; ++sum) {
    total += probability[sum];
  }
  return total;
}

double exact_p(std::int64_t n, double positive_ranks) {
  const double all = static_cast<double>(n * (n + 1)) / 2;
  // The distribution is symmetric: P(>= r) is P(<= all - r).
  const double above = rank_sum_at_most(n, all - std::floor(positive_ranks));
  const double below = rank_sum_at_most(n, std::ceil(positive_ranks));
  return std::min(1.0, 2 * std::min(above, below));
}

// Over all flips of the signs of `ranks`, `fixed` being added to every sum.
double enumerated_p(const std::vector<double>& ranks, double fixed, double positive_ranks) {
  constexpr double kTolerance = 1e-9;  // on ranks that are whole or half numbers
  const std::uint32_t flips = std::uint32_t{1} << ranks.size();
  std::int64_t above = 0, below = 0;
  for (std::uint32_t flip = 0; flip < flips; ++flip) {
    double sum = fixed;
    for (std::size_t i = 0; i < ranks.size(); ++i) sum += flip >> i & 1u ? ranks[i] : 0;
    above += sum >= positive_ranks - kTolerance ? 1 : 0;
    below += sum <= positive_ranks + kTolerance ? 1 : 0;
  }
  return std::min(1.0, 2 * static_cast<double>(std::min(above, below)) / flips);
}

// The regularised incomplete beta function by its continued fraction (Lentz's method; Press et al.,
// Numerical Recipes, section 6.4, gives the fraction).
double incomplete_beta(double a, double b, double x) {
  if (x <= 0) return 0;
  if (x >= 1) return 1;
  // The fraction converges fast below the mean only.
  if (x > (a + 1) / (a + b + 2)) return 1 - incomplete_beta(b, a, 1 - x);
  constexpr int kSteps = 500;
  constexpr double kTiny = 1e-300, kEnough = 1e-16;
  const auto guarded = [](double value) { return std::abs(value) < kTiny ? kTiny : value; };
  double c = 1, d = 1 / guarded(1 - (a + b) * x / (a + 1)), fraction = d;
  for (int m = 1; m <= kSteps; ++m) {
    const double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
    d = 1 / guarded(1 + even * d);
    c = guarded(1 + even / c);
    fraction *= c * d;
    const double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
    d = 1 / guarded(1 + odd * d);
    c = guarded(1 + odd / c);
    fraction *= c * d;
    if (std::abs(c * d - 1) < kEnough) break;
  }
  const double front = std::exp(std::lgamma(a + b) - std::lgamma(a) - std::lgamma(b) +
                                a * std::log(x) + b * std::log1p(-x));
  return front * fraction / a;
}

double t_two_sided(double t, double degrees) {
  if (std::isinf(t)) return 0;
  return incomplete_beta(degrees / 2, 0.5, degrees / (degrees + t * t));
}

// The t that leaves `p` outside of [-t, t].
double t_of_two_sided(double p, double degrees) {
  double low = 0, high = 1;
  while (t_two_sided(high, degrees) > p) high *= 2;
  for (int i = 0; i < 200 && low < high; ++i) {
    const double middle = (low + high) / 2;
    if (middle == low || middle == high) break;
    (t_two_sided(middle, degrees) > p ? low : high) = middle;
  }
  return (low + high) / 2;
}

}  // namespace

double mean(std::span<const double> values) {
  if (values.empty()) return kNan;
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

double standard_deviation(std::span<const double> values, bool of_sample) {
  const double n = static_cast<double>(values.size()) - (of_sample ? 1 : 0);
  if (n <= 0) return kNan;
  const double centre = mean(values);
  double squares = 0;
  for (const double value : values) squares += (value - centre) * (value - centre);
  return std::sqrt(squares / n);
}

double quantile(std::vector<double> values, double share) {
  std::sort(values.begin(), values.end());
  return sorted_quantile(values, share);
}

Bootstrap::Bootstrap(std::size_t length, std::int64_t resamples, std::uint64_t seed)
    : length_(length),
      resamples_(resamples),
      counts_(length < 2 ? 0 : length * static_cast<std::size_t>(resamples)) {
  if (counts_.empty()) return;
  Random random = Random::keyed(seed, {length, static_cast<std::uint64_t>(resamples)});
  for (std::int64_t resample = 0; resample < resamples; ++resample) {
    std::uint16_t* row = counts_.data() + static_cast<std::size_t>(resample) * length;
    for (std::size_t draw = 0; draw < length; ++draw) {
      ++row[random.integer(static_cast<std::int64_t>(length))];
    }
  }
}

template <class Statistic>
Interval Bootstrap::interval(Statistic statistic) const {
  if (counts_.empty()) return {kNan, kNan};
  // A statistic that is undefined may lie anywhere.
  std::vector<double> lows(static_cast<std::size_t>(resamples_)), highs(lows.size());
  for (std::size_t i = 0; i < lows.size(); ++i) {
    const double value = statistic(counts_.data() + i * length_);
    lows[i] = std::isnan(value) ? -kInfinity : value;
    highs[i] = std::isnan(value) ? kInfinity : value;
  }
  return {quantile(std::move(lows), 0.025), quantile(std::move(highs), 0.975)};
}

Interval Bootstrap::of_mean(std::span<const double> values) const {
  if (values.size() != length_) throw Error("the bootstrap was drawn for another number of values");
  std::vector<double> finite(values.begin(), values.end());
  std::vector<std::size_t> infinite;
  for (std::size_t i = 0; i < finite.size(); ++i) {
    if (std::isfinite(finite[i])) continue;
    infinite.push_back(i);
    finite[i] = 0;
  }
  return interval([&](const std::uint16_t* counts) {
    double infinite_sum = 0;  // infinite, or nan where both signs were drawn
    for (const std::size_t i : infinite) {
      if (counts[i] > 0) infinite_sum += values[i];
    }
    if (infinite_sum != 0) return infinite_sum;
    // Four sums, since one would wait for itself at each step.
    double sums[4] = {};
    std::size_t i = 0;
    for (; i + 4 <= length_; i += 4) {
      for (std::size_t lane = 0; lane < 4; ++lane)
        sums[lane] += counts[i + lane] * finite[i + lane];
    }
    for (; i < length_; ++i) sums[0] += counts[i] * finite[i];
    return (sums[0] + sums[1] + sums[2] + sums[3]) / static_cast<double>(length_);
  });
}

Interval Bootstrap::of_median(std::span<const double> values) const {
  if (values.size() != length_) throw Error("the bootstrap was drawn for another number of values");
  std::vector<std::size_t> order(length_);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(),
            [&](std::size_t a, std::size_t b) { return values[a] < values[b]; });
  return interval([&](const std::uint16_t* counts) {
    const auto at_rank = [&](std::size_t rank) {
      std::size_t passed = 0;
      for (const std::size_t i : order) {
        passed += counts[i];
        if (passed > rank) return values[i];
      }
      return values[order.back()];
    };
    const double low = at_rank((length_ - 1) / 2), high = at_rank(length_ / 2);
    return low == high ? low : (low + high) / 2;
  });
}

Wilcoxon wilcoxon_signed_rank(std::span<const double> a, std::span<const double> b,
                              const WilcoxonOptions& options) {
  check_paired(a, b);
  Wilcoxon result;
  result.pairs = static_cast<std::int64_t>(a.size());
  std::vector<double> differences;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double d = difference(a[i], b[i]);
    if (d == 0) ++result.zeros;
    if (d != 0 || options.zeros != ZeroMethod::kWilcox) differences.push_back(d);
  }
  const bool uses_normal = options.distribution == NullDistribution::kNormal;
  result.z = uses_normal ? 0 : kNan;
  if (result.zeros == result.pairs) return result;  // nothing differs: p is 1

  const std::vector<Ranked> ranked = rank_differences(differences);
  const auto n = static_cast<std::int64_t>(ranked.size());
  double negative_ranks = 0, of_zeros = 0, ties = 0;
  std::vector<double> ranks;  // of pairs that differ
  for (const Ranked& item : ranked) {
    if (item.size == 0) {
      of_zeros += item.rank;
      continue;
    }
    ranks.push_back(item.rank);
    (item.positive ? result.positive_ranks : negative_ranks) += item.rank;
  }
  double fixed = 0;
  if (options.zeros == ZeroMethod::kZsplit) fixed = of_zeros / 2;
  result.positive_ranks += fixed;
  negative_ranks += fixed;
  result.statistic = std::min(result.positive_ranks, negative_ranks);
  for (std::size_t first = 0; first < ranked.size();) {
    std::size_t last = first;
    while (last < ranked.size() && ranked[last].size == ranked[first].size) ++last;
    const auto t = static_cast<double>(last - first);
    const bool is_left_out = options.zeros == ZeroMethod::kPratt && ranked[first].size == 0;
    if (!is_left_out) ties += t * t * t - t;
    first = last;
  }

  constexpr std::int64_t kExactPairs = 50, kEnumeratedPairs = 13;
  const bool has_ties = ties > 0 || result.zeros > 0;
  NullDistribution distribution = options.distribution;
  if (distribution == NullDistribution::kDefault && has_ties && result.pairs <= kEnumeratedPairs) {
    result.p = enumerated_p(ranks, fixed, result.positive_ranks);
    return result;
  }
  if (distribution == NullDistribution::kDefault) {
    distribution = result.pairs <= kExactPairs && !has_ties ? NullDistribution::kExact
                                                            : NullDistribution::kNormal;
  }
  if (distribution == NullDistribution::kExact) {
    result.p = exact_p(n, result.positive_ranks);
    return result;
  }
  const auto count = static_cast<double>(n), zeros = static_cast<double>(result.zeros);
  double centre = count * (count + 1) / 4, variance = count * (count + 1) * (2 * count + 1);
  if (options.zeros == ZeroMethod::kPratt) {
    centre -= zeros * (zeros + 1) / 4;
    variance -= zeros * (zeros + 1) * (2 * zeros + 1);
  }
  const double deviation = std::sqrt((variance - ties / 2) / 24);
  double z = (result.positive_ranks - centre) / deviation;
  if (options.continuity && z != 0) z -= (z > 0 ? 0.5 : -0.5) / deviation;
  result.z = -std::abs(z);
  result.p = std::min(1.0, 2 * normal_tail(std::abs(z)));
  return result;
}

PairedT paired_t_test(std::span<const double> a, std::span<const double> b) {
  check_paired(a, b);
  PairedT result;
  result.degrees_of_freedom = static_cast<std::int64_t>(a.size()) - 1;
  if (a.size() < 2) return {kNan, kNan, 0, {kNan, kNan}};
  std::vector<double> differences;
  for (std::size_t i = 0; i < a.size(); ++i) differences.push_back(difference(a[i], b[i]));
  const double centre = mean(differences);
  const double error =
      standard_deviation(differences, true) / std::sqrt(static_cast<double>(a.size()));
  const auto degrees = static_cast<double>(result.degrees_of_freedom);
  if (error == 0) {
    result.t = centre == 0 ? 0 : std::copysign(kInfinity, centre);
  } else {
    result.t = centre / error;
  }
  result.p = t_two_sided(result.t, degrees);
  const double reach = t_of_two_sided(0.05, degrees) * error;
  result.mean_difference_ci95 = {centre - reach, centre + reach};
  return result;
}

std::vector<double> holm(std::span<const double> p) {
  std::vector<std::size_t> order(p.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return p[a] < p[b]; });
  std::vector<double> adjusted(p.size());
  double largest = 0;
  for (std::size_t i = 0; i < order.size(); ++i) {
    const auto tests_left = static_cast<double>(order.size() - i);
    largest = std::max(largest, std::min(1.0, tests_left * p[order[i]]));
    adjusted[order[i]] = largest;
  }
  return adjusted;
}

}  // namespace segmamba::eval
