#pragma once
// From the scores of cases to what is said about methods: summaries, comparisons, a leaderboard,
// worst cases.

#include <cstdint>
#include <string>
#include <vector>

#include "segmamba/eval/evaluate.h"
#include "segmamba/eval/statistics.h"

namespace segmamba::eval {

struct AnalysisOptions {
  std::int64_t resamples = 10000;  // of the bootstrap; 0: no intervals (nan)
  std::uint64_t seed = 1;
  std::int64_t worst = 5;  // cases listed for each method and convention
};

// Over the cases of one method, region, convention and metric. Values that are nan are left out of
// all statistics and counted; infinite values are kept, so that they show in the mean.
struct Summary {
  std::string method, region, convention, metric;
  double mean = 0, std = 0, median = 0;  // std: of the population (n, not n - 1)
  double q25 = 0, q75 = 0, min = 0, max = 0;
  Interval mean_ci95;             // bootstrap over cases
  std::int64_t cases = 0;         // scored
  std::int64_t nan = 0, inf = 0;  // of them
  std::int64_t not_scored = 0;    // beside them: see Evaluation::problems
};

// Two methods on the cases that both have; pairs with a nan on either side are left out. For
// metrics of which higher or lower is better.
struct Comparison {
  std::string method_a, method_b, region, convention, metric;
  std::int64_t pairs = 0;
  double mean_difference = 0;  // a - b; nan where both have infinite values the other lacks
  Interval difference_ci95;    // bootstrap over cases, the same for both methods
  Wilcoxon test;
  double p_holm = 1;  // family: pairs of methods and regions of one convention and metric
};

// Ranks as in the BraTS challenges: for every case, region and metric (Dice and HD95; those of
// lesions where a convention has them) the methods are ranked, ties share their mean rank, and a
// method's ranks are averaged. A nan or a case that could not be scored is the worst. Mean Dice and
// HD95 are averages over the regions of the means over cases.
struct Standing {
  std::string convention, method;
  double mean_rank = 0;
  double mean_dice = 0, mean_hd95 = 0;
};

// By Dice (lesion_dice where a convention has it), averaged over the regions that have a number.
struct WorstCase {
  std::string method, convention, metric, case_name;
  double value = 0;
};

struct Analysis {
  AnalysisOptions options;
  std::vector<Summary> summaries;       // in the order of the rows' first appearance
  std::vector<Comparison> comparisons;  // by convention, metric, region, pair; empty for one method
  std::vector<Standing> leaderboard;    // by convention, best first; empty for one method
  std::vector<WorstCase> worst;         // by method and convention, worst first
};

// The result does not depend on the number of threads.
Analysis analyse(const Evaluation& evaluation, const AnalysisOptions& options = {});

// The convention's metric for Dice and HD95, of whole regions or of lesions, among the rows; ""
// where there is none. For brats2024's whole regions, hd95_of_masks goes before the script's hd95.
enum class Scope { kRegions, kLesions };
std::string dice_metric(const Evaluation& evaluation, const std::string& convention, Scope scope);
std::string hd95_metric(const Evaluation& evaluation, const std::string& convention, Scope scope);

}  // namespace segmamba::eval
