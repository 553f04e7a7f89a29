#include "segmamba/eval/tune_postprocess.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <optional>
#include <set>

#include "segmamba/core/error.h"
#include "segmamba/core/parallel.h"
#include "segmamba/core/random.h"
#include "segmamba/core/text.h"
#include "segmamba/data/dataset.h"
#include "tuning_cases.h"
#include "tuning_rules.h"

namespace segmamba::eval {
namespace {

using post::PostprocessConfig;
using post::Rule;

constexpr std::int64_t kFolds = 5;
constexpr double kLeastGain = 1e-4;
constexpr double kRounding = 1e-12;  // gains of no more than this are none

// The entry that is in use of each family.
using Choice = std::vector<std::optional<std::size_t>>;

// Of every entry of a family for every case: by how much its score is better than without the
// family. [entry][case]
using Gains = std::vector<std::vector<double>>;

// [case][region]
using Scores = std::vector<std::vector<double>>;

// A share, so that a mask that vanishes cannot make it infinite.
bool is_tunable(metrics::Quantity quantity) {
  switch (quantity) {
    case metrics::Quantity::kDice:
    case metrics::Quantity::kJaccard:
    case metrics::Quantity::kSensitivity:
    case metrics::Quantity::kPrecision:
    case metrics::Quantity::kVolumeSimilarity:
    case metrics::Quantity::kSurfaceDice:
    case metrics::Quantity::kSurfaceDiceOfDirections:
    case metrics::Quantity::kLesionDice:
    case metrics::Quantity::kLesionSurfaceDice:
      return true;
    default:
      return false;
  }
}

const metrics::MetricRule& tuned_metric(const EvaluateOptions& options) {
  const auto& rules = options.conventions.front().metrics;
  const auto find = [&](auto is_wanted) {
    return std::find_if(rules.begin(), rules.end(), is_wanted);
  };
  auto found = rules.end();
  if (!options.metrics.empty()) {
    found = find([&](const auto& rule) { return rule.name == options.metrics.front(); });
  } else {
    for (const auto quantity : {metrics::Quantity::kLesionDice, metrics::Quantity::kDice}) {
      if (found != rules.end()) break;
      found = find([&](const auto& rule) { return rule.quantity == quantity; });
    }
  }
  if (found == rules.end() || !is_tunable(found->quantity)) {
    throw UsageError(concat("--tune-postprocess needs a metric between 0 and 1 of which more is ",
                            "better, such as dice, lesion_dice or nsd_2mm",
                            options.metrics.empty() ? "" : "; not " + options.metrics.front()));
  }
  return *found;
}

// Tells of work that is done in parallel.
class Steps {
 public:
  Steps(const ProgressCallback& progress, std::int64_t total)
      : progress_(progress), total_(total) {}
  void add() {
    const std::scoped_lock lock(mutex_);
    if (progress_) progress_(++done_, total_);
  }

 private:
  const ProgressCallback& progress_;
  std::int64_t total_, done_ = 0;
  std::mutex mutex_;
};

std::vector<TuningCase> read_cases(const EvaluateOptions& options, const Plan& plan,
                                   const ProgressCallback& progress) {
  const std::int64_t count = std::ssize(plan.pairs);
  std::vector<std::optional<TuningCase>> read(plan.pairs.size());
  Steps steps(progress, count);
  parallel_for(count, [&](std::int64_t i) {
    read[i].emplace(plan.pairs[i], options);
    steps.add();
  });
  std::vector<TuningCase> cases;
  cases.reserve(read.size());
  for (auto& item : read) cases.push_back(std::move(*item));
  return cases;
}

// The fold of each case; cases of one patient are in one.
std::vector<std::int64_t> draw_folds(const Plan& plan, std::uint64_t seed) {
  std::set<std::string> names;
  for (const CasePair& pair : plan.pairs) names.insert(data::patient_of(pair.case_name));
  if (std::ssize(names) < kFolds) {
    throw Error(concat("--tune-postprocess needs cases of at least ", kFolds,
                       " patients, thresholds of fewer say nothing about others; got ",
                       names.size()));
  }
  std::vector<std::string> patients(names.begin(), names.end());
  Random random(seed);
  random.shuffle(patients);
  std::map<std::string, std::int64_t> fold_of;
  for (const auto& patient : patients) fold_of.emplace(patient, std::ssize(fold_of) % kFolds);
  std::vector<std::int64_t> folds;
  for (const CasePair& pair : plan.pairs) {
    folds.push_back(fold_of.at(data::patient_of(pair.case_name)));
  }
  return folds;
}

// The mildest of the entries with the greatest gain over the cases of which is_in(case) is true;
// none where no entry gains.
template <class Predicate>
std::optional<std::size_t> best_entry(const Gains& gains, Predicate is_in) {
  std::optional<std::size_t> best;
  double most = kRounding;
  for (std::size_t entry = 0; entry < gains.size(); ++entry) {
    double sum = 0;
    for (std::size_t i = 0; i < gains[entry].size(); ++i) sum += is_in(i) ? gains[entry][i] : 0;
    if (sum <= most * (1 + kRounding)) continue;
    most = sum;
    best = entry;
  }
  return best;
}

// The gain of each case with the entry that is best on the other folds.
std::vector<double> held_out_gains(const Gains& gains, const std::vector<std::int64_t>& folds) {
  std::vector<double> held_out(folds.size());
  for (std::int64_t fold = 0; fold < kFolds; ++fold) {
    const auto best = best_entry(gains, [&](std::size_t i) { return folds[i] != fold; });
    if (!best) continue;
    for (std::size_t i = 0; i < folds.size(); ++i) {
      if (folds[i] == fold) held_out[i] = gains[*best][i];
    }
  }
  return held_out;
}

class Tuner {
 public:
  Tuner(const EvaluateOptions& options, const Plan& plan, const TuneOptions& tune_options,
        const ProgressCallback& progress)
      : progress_(progress),
        objective_{options.conventions.front(), tuned_metric(options).name, plan.regions},
        folds_(draw_folds(plan, tune_options.seed)),
        cases_(read_cases(options, plan, progress)),
        bootstrap_(cases_.size(), tune_options.resamples, tune_options.seed),
        classes_(class_names(plan.regions)),
        families_(rule_families(cases_, plan.regions)) {}

  Tuning run() {
    Tuning tuning;
    tuning.convention = objective_.convention.name;
    tuning.metric = objective_.metric;
    tuning.absent_scores_zero = objective_.of_absent() == 0;
    tuning.cases = std::ssize(cases_);
    tuning.folds = kFolds;
    Choice choice(families_.size());
    const Scores before = scores_of(choice);
    choose(choice, tuning);
    confirm(choice, tuning);
    const Scores after = scores_of(choice);
    const auto mean_of = [](const Scores& scores, std::size_t region) {
      std::vector<double> values;
      for (const auto& of_case : scores) values.push_back(of_case[region]);
      return mean(values);
    };
    for (std::size_t i = 0; i < objective_.regions.size(); ++i) {
      tuning.regions.push_back({objective_.regions[i].name, mean_of(before, i), mean_of(after, i)});
    }
    tuning.config = config_of(choice);
    return tuning;
  }

 private:
  // A family with the entry that is best on all cases.
  struct Candidate {
    std::size_t family, entry;
    TunedRule rule;
    bool is_good() const { return rule.gain >= kLeastGain && rule.gain_ci95.low >= 0; }
  };

  // Adds the best family that is good, again and again.
  void choose(Choice& choice, Tuning& tuning) const {
    while (true) {
      std::vector<Candidate> candidates;
      const Scores without = scores_of(choice);
      Steps steps(progress_, std::ssize(families_) * std::ssize(cases_));
      for (std::size_t family = 0; family < families_.size(); ++family) {
        if (choice[family]) continue;
        if (auto candidate = best_of(family, choice, without, steps))
          candidates.push_back(*candidate);
      }
      std::stable_sort(
          candidates.begin(), candidates.end(),
          [](const Candidate& a, const Candidate& b) { return a.rule.gain > b.rule.gain; });
      const auto good =
          std::find_if(candidates.begin(), candidates.end(),
                       [](const Candidate& candidate) { return candidate.is_good(); });
      if (good == candidates.end()) {
        if (!candidates.empty()) tuning.next_best = candidates.front().rule;
        return;
      }
      choice[good->family] = good->entry;
    }
  }

  // Looks at each family again beside the others, which were not all there when it was chosen.
  void confirm(Choice& choice, Tuning& tuning) const {
    Steps steps(progress_, std::ssize(cases_) *
                               std::count_if(choice.begin(), choice.end(),
                                             [](const auto& entry) { return entry.has_value(); }));
    for (std::size_t family = 0; family < families_.size(); ++family) {
      if (!choice[family]) continue;
      choice[family].reset();
      const auto candidate = best_of(family, choice, scores_of(choice), steps);
      if (!candidate || !candidate->is_good()) continue;
      choice[family] = candidate->entry;
      tuning.rules.push_back(candidate->rule);
    }
  }

  // None where no entry of the family gains beside the others. `without`: the scores of these.
  std::optional<Candidate> best_of(std::size_t family, const Choice& others, const Scores& without,
                                   Steps& steps) const {
    const Gains gains = gains_of(family, others, without, steps);
    const auto best = best_entry(gains, [](std::size_t) { return true; });
    if (!best) return {};
    const auto held_out = held_out_gains(gains, folds_);
    const auto count = [&](auto is_it) {
      return std::count_if(held_out.begin(), held_out.end(), is_it);
    };
    return Candidate{
        family,
        *best,
        {concat(families_[family].key, ": ", families_[family].entries[*best]), mean(held_out),
         bootstrap_.of_mean(held_out), count([](double gain) { return gain > kRounding; }),
         count([](double gain) { return gain < -kRounding; })}};
  }

  Gains gains_of(std::size_t family, const Choice& others, const Scores& without,
                 Steps& steps) const {
    const auto place = std::count_if(others.begin(), others.begin() + family,
                                     [](const auto& entry) { return entry.has_value(); });
    std::vector<std::vector<Rule>> with;  // of each entry
    Choice choice = others;
    for (std::size_t entry = 0; entry < families_[family].entries.size(); ++entry) {
      choice[family] = entry;
      with.push_back(rules_of(choice));
    }
    Gains gains(with.size(), std::vector<double>(cases_.size()));
    parallel_for(std::ssize(cases_), [&](std::int64_t i) {
      // An entry changes what a milder one changes: where it is as much, it is the same.
      std::int64_t voxels = 0;
      double gain = 0;
      for (std::size_t entry = 0; entry < with.size(); ++entry) {
        auto labels = cases_[i].prediction();
        const auto changes = post::postprocess(labels, cases_[i].grid(), with[entry]);
        if (changes[place].voxels != voxels) {
          voxels = changes[place].voxels;
          gain = mean(cases_[i].score(labels, objective_)) - mean(without[i]);
        }
        gains[entry][i] = gain;
      }
      steps.add();
    });
    return gains;
  }

  PostprocessConfig config_of(const Choice& choice) const {
    PostprocessConfig config;
    for (std::size_t i = 0; i < families_.size(); ++i) {
      if (choice[i]) (config.*families_[i].list).push_back(families_[i].entries[*choice[i]]);
    }
    return config;
  }

  std::vector<Rule> rules_of(const Choice& choice) const {
    return post::make_rules(config_of(choice), classes_);
  }

  Scores scores_of(const Choice& choice) const {
    const std::vector<Rule> rules = rules_of(choice);
    Scores scores(cases_.size());
    parallel_for(std::ssize(cases_), [&](std::int64_t i) {
      auto labels = cases_[i].prediction();
      post::postprocess(labels, cases_[i].grid(), rules);
      scores[i] = cases_[i].score(labels, objective_);
    });
    return scores;
  }

  const ProgressCallback& progress_;
  Objective objective_;
  std::vector<std::int64_t> folds_;  // of each case
  std::vector<TuningCase> cases_;
  Bootstrap bootstrap_;
  std::vector<std::string> classes_;
  std::vector<RuleFamily> families_;
};

}  // namespace

void check_tuning(const EvaluateOptions& options) {
  const auto need_one = [](std::size_t count, const char* what) {
    if (count == 1) return;
    throw UsageError(concat("--tune-postprocess needs one ", what, ", got ", count));
  };
  need_one(options.methods.size(), "--prediction");
  need_one(options.conventions.size(), "--convention");
  if (!options.metrics.empty()) need_one(options.metrics.size(), "metric");
  tuned_metric(options);
}

Tuning tune_postprocess(const EvaluateOptions& options, const Plan& plan,
                        const TuneOptions& tune_options, const ProgressCallback& progress) {
  check_tuning(options);
  return Tuner(options, plan, tune_options, progress).run();
}

}  // namespace segmamba::eval
