#pragma once
// Finds the post-processing (segmamba/post) that makes predictions of a validation set better.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "segmamba/eval/evaluate.h"
#include "segmamba/eval/statistics.h"
#include "segmamba/post/postprocess_config.h"

namespace segmamba::eval {

struct TuneOptions {
  std::int64_t resamples = 10000;  // of the bootstrap
  std::uint64_t seed = 1;          // of folds and bootstrap
};

// Gains are differences of a case's score, the mean of the metric over the regions. They are held
// out: each case is scored with the threshold that is best on the folds it is not in; folds are of
// patients.
struct TunedRule {
  std::string rule;  // as in the config: "remove_below_ml: ET=0.1"
  double gain = 0;   // mean over cases
  Interval gain_ci95;
  std::int64_t better = 0, worse = 0;  // cases
};

struct RegionScore {
  std::string region;
  double before = 0, after = 0;  // means over cases, of the thresholds that all cases chose
};

struct Tuning {
  std::string convention, metric;
  // True where the convention scores a region that is rightly absent as 0, so that removing a false
  // one gains nothing.
  bool absent_scores_zero = false;
  std::int64_t cases = 0, folds = 0;
  std::vector<TunedRule> rules;        // kept, in the order in which they are applied
  std::optional<TunedRule> next_best;  // the best that was not kept
  std::vector<RegionScore> regions;
  post::PostprocessConfig config;
};

// Throws UsageError where `options` ask for something that cannot be tuned for: not one method, one
// convention and at most one metric, or a metric that is no share of which more is better.
void check_tuning(const EvaluateOptions& options);

// Looks for rules one after another: of all kinds and regions, with thresholds between the volumes
// that occur, the one with the greatest held-out gain given the rules so far, until none is left
// that gains at least 0.0001 with a 95 % interval (bootstrap over cases) that does not reach below
// 0. At the end each is looked at again beside the others, which may move its threshold or drop it.
// The metric is that of `options`; default lesion_dice of a convention that has it, else dice.
// Where it is nan (empty masks) the score is 1 where neither side holds the region, else 0. The
// result does not depend on the number of threads. Throws Error where the cases that can be scored
// are of fewer than 5 patients.
Tuning tune_postprocess(const EvaluateOptions& options, const Plan& plan,
                        const TuneOptions& tune_options = {},
                        const ProgressCallback& progress = {});

// For people: rules, scores before and after, what was not kept.
std::string tuning_text(const Tuning& tuning);
// A file for post::read_postprocess, with the text as a comment.
std::string tuning_yaml(const Tuning& tuning);

}  // namespace segmamba::eval
