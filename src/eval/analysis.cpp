#include "segmamba/eval/analysis.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <tuple>

#include "segmamba/core/parallel.h"
#include "segmamba/core/text.h"

namespace segmamba::eval {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

// The values of one method, region, convention and metric, by place in Evaluation::cases; nan where
// there is none.
struct Series {
  std::string method, region, convention, metric;
  std::vector<double> values;
  std::vector<bool> scored;
};

using SeriesKey = std::tuple<std::string, std::string, std::string, std::string>;

class SeriesTable {
 public:
  explicit SeriesTable(const Evaluation& evaluation) {
    std::map<std::string, std::size_t> case_places;
    for (const std::string& name : evaluation.cases) case_places.emplace(name, case_places.size());
    for (const Row& row : evaluation.rows) {
      const auto [place, is_new] = places_.try_emplace(
          SeriesKey{row.method, row.region, row.convention, row.metric}, series_.size());
      if (is_new) {
        series_.push_back({row.method, row.region, row.convention, row.metric,
                           std::vector<double>(case_places.size(), kNan),
                           std::vector<bool>(case_places.size(), false)});
      }
      Series& series = series_[place->second];
      const std::size_t case_place = case_places.at(row.case_name);
      series.values[case_place] = row.value;
      series.scored[case_place] = row.scored;
    }
  }

  const std::vector<Series>& all() const { return series_; }
  // Null where there are no rows.
  const Series* find(const std::string& method, const std::string& region,
                     const std::string& convention, const std::string& metric) const {
    const auto place = places_.find({method, region, convention, metric});
    return place == places_.end() ? nullptr : &series_[place->second];
  }

 private:
  std::vector<Series> series_;
  std::map<SeriesKey, std::size_t> places_;
};

// Fills `interval` of each item with the bootstrap interval of `values(item)`. Lists of one length
// share their draws, which take the most time and memory: length by length.
template <class Item, class Values>
void add_intervals(std::vector<Item>& items, Interval Item::*interval, Values values,
                   const AnalysisOptions& options) {
  std::map<std::size_t, std::vector<std::size_t>> by_length;
  for (std::size_t i = 0; i < items.size(); ++i) {
    items[i].*interval = {kNan, kNan};
    by_length[values(i).size()].push_back(i);
  }
  if (options.resamples < 1) return;
  for (const auto& [length, indices] : by_length) {
    if (length < 2) continue;
    const Bootstrap bootstrap(length, options.resamples, options.seed);
    const std::vector<std::size_t>& list = indices;
    parallel_for(static_cast<std::int64_t>(list.size()), [&](std::int64_t i) {
      const std::size_t item = list[static_cast<std::size_t>(i)];
      items[item].*interval = bootstrap.of_mean(values(item));
    });
  }
}

std::vector<Summary> summarise(const SeriesTable& table, const AnalysisOptions& options) {
  std::vector<Summary> summaries;
  std::vector<std::vector<double>> numbers;
  for (const Series& series : table.all()) {
    Summary summary;
    summary.method = series.method;
    summary.region = series.region;
    summary.convention = series.convention;
    summary.metric = series.metric;
    std::vector<double> list;
    for (std::size_t i = 0; i < series.values.size(); ++i) {
      if (!series.scored[i]) {
        ++summary.not_scored;
        continue;
      }
      ++summary.cases;
      if (std::isnan(series.values[i])) {
        ++summary.nan;
        continue;
      }
      if (std::isinf(series.values[i])) ++summary.inf;
      list.push_back(series.values[i]);
    }
    summary.mean = mean(list);
    summary.std = standard_deviation(list);
    summary.min = quantile(list, 0);
    summary.q25 = quantile(list, 0.25);
    summary.median = quantile(list, 0.5);
    summary.q75 = quantile(list, 0.75);
    summary.max = quantile(list, 1);
    summaries.push_back(std::move(summary));
    numbers.push_back(std::move(list));
  }
  add_intervals(
      summaries, &Summary::mean_ci95,
      [&](std::size_t i) -> const std::vector<double>& { return numbers[i]; }, options);
  return summaries;
}

struct Pairs {
  std::vector<double> a, b, differences;
};

Pairs common_values(const Series& a, const Series& b) {
  Pairs pairs;
  for (std::size_t i = 0; i < a.values.size(); ++i) {
    if (std::isnan(a.values[i]) || std::isnan(b.values[i])) continue;
    pairs.a.push_back(a.values[i]);
    pairs.b.push_back(b.values[i]);
    pairs.differences.push_back(a.values[i] == b.values[i] ? 0 : a.values[i] - b.values[i]);
  }
  return pairs;
}

std::vector<Comparison> compare(const Evaluation& evaluation, const SeriesTable& table,
                                const AnalysisOptions& options) {
  std::vector<Comparison> comparisons;
  std::vector<Pairs> pairs;
  std::vector<std::size_t> family_ends;
  const auto& methods = evaluation.methods;
  for (const metrics::Convention& convention : evaluation.conventions) {
    for (const metrics::MetricRule& rule : convention.metrics) {
      if (metrics::better(rule.quantity) == metrics::Better::kNeither) continue;
      for (const metrics::Region& region : evaluation.regions) {
        for (std::size_t a = 0; a < methods.size(); ++a) {
          for (std::size_t b = a + 1; b < methods.size(); ++b) {
            const Series* first =
                table.find(methods[a].name, region.name, convention.name, rule.name);
            const Series* second =
                table.find(methods[b].name, region.name, convention.name, rule.name);
            if (first == nullptr || second == nullptr) continue;
            pairs.push_back(common_values(*first, *second));
            Comparison comparison;
            comparison.method_a = first->method;
            comparison.method_b = second->method;
            comparison.region = region.name;
            comparison.convention = convention.name;
            comparison.metric = rule.name;
            comparison.pairs = static_cast<std::int64_t>(pairs.back().a.size());
            comparison.mean_difference = mean(pairs.back().differences);
            comparison.test = wilcoxon_signed_rank(pairs.back().a, pairs.back().b);
            comparisons.push_back(std::move(comparison));
          }
        }
      }
      family_ends.push_back(comparisons.size());
    }
  }
  std::size_t first = 0;
  for (const std::size_t end : family_ends) {
    std::vector<double> p;
    for (std::size_t i = first; i < end; ++i) p.push_back(comparisons[i].test.p);
    const std::vector<double> adjusted = holm(p);
    for (std::size_t i = first; i < end; ++i) comparisons[i].p_holm = adjusted[i - first];
    first = end;
  }
  add_intervals(
      comparisons, &Comparison::difference_ci95,
      [&](std::size_t i) -> const std::vector<double>& { return pairs[i].differences; }, options);
  return comparisons;
}

// All cases have the same rows: a look at the first one is enough.
std::string first_with_rows(const Evaluation& evaluation, const std::string& convention,
                            const std::vector<std::string>& metrics) {
  for (const std::string& metric : metrics) {
    for (const Row& row : evaluation.rows) {
      if (row.case_name != evaluation.rows.front().case_name) break;
      if (row.convention == convention && row.metric == metric) return metric;
    }
  }
  return "";
}

// Adds the rank of each value (0 is the best, ties share the mean) to `sums`.
void add_ranks(const std::vector<double>& values, bool higher_is_better,
               std::vector<double>& sums) {
  const auto badness = [&](double value) {
    if (std::isnan(value)) return kInfinity;  // as bad as the worst
    return higher_is_better ? -value : value;
  };
  for (std::size_t i = 0; i < values.size(); ++i) {
    double rank = 1;
    for (std::size_t j = 0; j < values.size(); ++j) {
      if (i == j) continue;
      if (badness(values[j]) < badness(values[i])) rank += 1;
      if (badness(values[j]) == badness(values[i])) rank += 0.5;
    }
    sums[i] += rank;
  }
}

// Mean over the regions of the means over cases.
double mean_over_regions(const std::vector<Summary>& summaries, const std::string& method,
                         const std::string& convention, const std::string& metric) {
  std::vector<double> means;
  for (const Summary& summary : summaries) {
    if (summary.method == method && summary.convention == convention && summary.metric == metric) {
      means.push_back(summary.mean);
    }
  }
  return mean(means);
}

// Dice and HD95; lesion-wise metrics go first where there are any.
std::pair<std::string, std::string> ranking_metrics(const Evaluation& evaluation,
                                                    const std::string& convention) {
  for (const Scope scope : {Scope::kLesions, Scope::kRegions}) {
    const std::string dice = dice_metric(evaluation, convention, scope);
    const std::string hd95 = hd95_metric(evaluation, convention, scope);
    if (!dice.empty() || !hd95.empty()) return {dice, hd95};
  }
  return {};
}

std::vector<Standing> rank_methods(const Evaluation& evaluation, const SeriesTable& table,
                                   const std::vector<Summary>& summaries) {
  std::vector<Standing> leaderboard;
  if (evaluation.methods.size() < 2) return leaderboard;
  for (const metrics::Convention& convention : evaluation.conventions) {
    const auto [dice, hd95] = ranking_metrics(evaluation, convention.name);
    std::vector<double> rank_sums(evaluation.methods.size());
    std::int64_t rankings = 0;
    for (const auto& [metric, higher] : {std::pair{dice, true}, std::pair{hd95, false}}) {
      for (const metrics::Region& region : evaluation.regions) {
        std::vector<const Series*> series;
        for (const Method& method : evaluation.methods) {
          series.push_back(table.find(method.name, region.name, convention.name, metric));
        }
        if (std::find(series.begin(), series.end(), nullptr) != series.end()) continue;
        for (std::size_t i = 0; i < evaluation.cases.size(); ++i) {
          std::vector<double> values;
          bool any_scored = false;
          for (const Series* one : series) {
            values.push_back(one->values[i]);
            any_scored = any_scored || one->scored[i];
          }
          if (!any_scored) continue;
          add_ranks(values, higher, rank_sums);
          ++rankings;
        }
      }
    }
    if (rankings == 0) continue;
    const auto first = static_cast<std::ptrdiff_t>(leaderboard.size());
    for (std::size_t m = 0; m < evaluation.methods.size(); ++m) {
      const std::string& name = evaluation.methods[m].name;
      leaderboard.push_back({convention.name, name, rank_sums[m] / static_cast<double>(rankings),
                             mean_over_regions(summaries, name, convention.name, dice),
                             mean_over_regions(summaries, name, convention.name, hd95)});
    }
    std::stable_sort(
        leaderboard.begin() + first, leaderboard.end(),
        [](const Standing& a, const Standing& b) { return a.mean_rank < b.mean_rank; });
  }
  return leaderboard;
}

std::vector<WorstCase> find_worst(const Evaluation& evaluation, const SeriesTable& table,
                                  const AnalysisOptions& options) {
  std::vector<WorstCase> worst;
  for (const Method& method : evaluation.methods) {
    for (const metrics::Convention& convention : evaluation.conventions) {
      const std::string metric = ranking_metrics(evaluation, convention.name).first;
      std::vector<WorstCase> cases;
      for (std::size_t i = 0; i < evaluation.cases.size(); ++i) {
        std::vector<double> values;
        for (const metrics::Region& region : evaluation.regions) {
          const Series* series = table.find(method.name, region.name, convention.name, metric);
          if (series != nullptr && series->scored[i] && !std::isnan(series->values[i])) {
            values.push_back(series->values[i]);
          }
        }
        if (values.empty()) continue;
        cases.push_back({method.name, convention.name, metric, evaluation.cases[i], mean(values)});
      }
      std::stable_sort(cases.begin(), cases.end(), [](const WorstCase& a, const WorstCase& b) {
        return std::tie(a.value, a.case_name) < std::tie(b.value, b.case_name);
      });
      cases.resize(std::min(cases.size(), static_cast<std::size_t>(options.worst)));
      std::move(cases.begin(), cases.end(), std::back_inserter(worst));
    }
  }
  return worst;
}

}  // namespace

std::string dice_metric(const Evaluation& evaluation, const std::string& convention, Scope scope) {
  return first_with_rows(evaluation, convention,
                         {scope == Scope::kLesions ? "lesion_dice" : "dice"});
}

std::string hd95_metric(const Evaluation& evaluation, const std::string& convention, Scope scope) {
  if (scope == Scope::kLesions) return first_with_rows(evaluation, convention, {"lesion_hd95"});
  return first_with_rows(evaluation, convention, {"hd95_of_masks", "hd95"});
}

Analysis analyse(const Evaluation& evaluation, const AnalysisOptions& options) {
  const SeriesTable table(evaluation);
  Analysis analysis;
  analysis.options = options;
  analysis.summaries = summarise(table, options);
  analysis.comparisons = compare(evaluation, table, options);
  analysis.leaderboard = rank_methods(evaluation, table, analysis.summaries);
  analysis.worst = find_worst(evaluation, table, options);
  return analysis;
}

}  // namespace segmamba::eval
