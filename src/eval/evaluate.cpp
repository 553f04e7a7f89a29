#include "segmamba/eval/evaluate.h"

#include <algorithm>
#include <limits>
#include <map>
#include <mutex>
#include <new>

#include "labels.h"
#include "segmamba/core/error.h"
#include "segmamba/core/parallel.h"
#include "segmamba/core/text.h"
#include "segmamba/io/picture.h"
#include "segmamba/io/png.h"
#include "segmamba/io/volume.h"
#include "segmamba/metrics/score.h"

namespace segmamba::eval {
namespace {

struct CaseResult {
  std::vector<metrics::Score> scores;  // by region, convention, metric
  std::map<std::string, double> reference_ml;
  std::string png, error;
};

bool is_wanted(const EvaluateOptions& options, const std::string& metric) {
  return options.metrics.empty() ||
         std::find(options.metrics.begin(), options.metrics.end(), metric) != options.metrics.end();
}

// Both sides of a case as one group of conventions reads them.
class CaseScorer {
 public:
  CaseScorer(const CasePair& pair, const EvaluateOptions& options,
             const std::vector<metrics::Region>& regions)
      : options_(options),
        regions_(regions),
        prediction_(io::read_labels(pair.prediction)),
        reference_(io::read_labels(pair.reference)) {
    if (prediction_.geometry.size != reference_.geometry.size) {
      throw Error(concat(pair.prediction.string(), " has changed since it was looked at"));
    }
  }

  CaseResult score() {
    CaseResult result;
    // Those that keep label 4 come first: reading it as 3 changes the labels.
    std::map<std::pair<std::string, std::string>, std::vector<metrics::Score>> scores;
    for (const bool keeps : {true, false}) {
      std::vector<metrics::Convention> group;
      for (const metrics::Convention& convention : options_.conventions) {
        if (keeps_label_four(options_, convention) == keeps) group.push_back(convention);
      }
      if (group.empty()) continue;
      if (!keeps) {
        for (io::LabelMap* side : {&prediction_, &reference_}) {
          if (reads_four_as_three(options_.label_four, count_labels(side->voxels))) {
            read_four_as_three(side->voxels);
          }
        }
      }
      for (metrics::Score& score :
           metrics::score_case({prediction_.voxels, reference_.voxels, grid()}, regions_, group,
                               options_.metrics)) {
        scores[{score.region, score.convention}].push_back(std::move(score));
      }
    }
    for (const metrics::Region& region : regions_) {
      for (const metrics::Convention& convention : options_.conventions) {
        auto& list = scores[{region.name, convention.name}];
        std::move(list.begin(), list.end(), std::back_inserter(result.scores));
      }
    }
    add_reference_ml(result.reference_ml);
    if (options_.pictures)
      result.png = io::encode_png(io::draw_difference(reference_, prediction_));
    return result;
  }

 private:
  metrics::Grid grid() const { return {reference_.geometry.size, reference_.geometry.spacing}; }

  void add_reference_ml(std::map<std::string, double>& millilitres) const {
    constexpr double kCubicMillimetres = 1000;  // in a millilitre
    const LabelCounts counts = count_labels(reference_.voxels);
    const auto [sx, sy, sz] = reference_.geometry.spacing;
    for (const metrics::Region& region : regions_) {
      std::int64_t voxels = 0;
      for (const std::uint8_t label : region.labels) voxels += counts[label];
      millilitres[region.name] = static_cast<double>(voxels) * sx * sy * sz / kCubicMillimetres;
    }
  }

  const EvaluateOptions& options_;
  const std::vector<metrics::Region>& regions_;
  io::LabelMap prediction_, reference_;
};

// A row of nan for every number that the case would have had.
void add_unscored(const EvaluateOptions& options, const std::vector<metrics::Region>& regions,
                  const std::string& method, const std::string& case_name, std::vector<Row>& rows) {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  for (const metrics::Region& region : regions) {
    for (const metrics::Convention& convention : options.conventions) {
      for (const metrics::MetricRule& rule : convention.metrics) {
        if (!is_wanted(options, rule.name)) continue;
        rows.push_back({method, case_name, region.name, convention.name, rule.name, kNan, false});
      }
    }
  }
}

}  // namespace

Evaluation evaluate(const EvaluateOptions& options, const Plan& plan,
                    const ProgressCallback& progress) {
  const auto total = static_cast<std::int64_t>(plan.pairs.size());
  std::vector<CaseResult> results(plan.pairs.size());
  std::mutex mutex;
  std::int64_t done = 0;
  parallel_for(total, [&](std::int64_t i) {
    try {
      results[i] = CaseScorer(plan.pairs[i], options, plan.regions).score();
    } catch (const Error& error) {
      results[i].error = error.what();
    } catch (const std::bad_alloc&) {
      results[i].error = "not enough memory to score it";
    }
    const std::scoped_lock lock(mutex);
    if (progress) progress(++done, total);
  });

  Evaluation evaluation;
  evaluation.methods = options.methods;
  evaluation.conventions = options.conventions;
  evaluation.regions = plan.regions;
  evaluation.cases = plan.cases;
  evaluation.problems = plan.problems;
  evaluation.notices = plan.notices;
  std::map<std::pair<std::string, std::string>, std::size_t> places;  // of a method and case
  for (std::size_t i = 0; i < plan.pairs.size(); ++i) {
    places[{plan.pairs[i].method, plan.pairs[i].case_name}] = i;
  }
  for (const Method& method : options.methods) {
    for (const std::string& name : plan.cases) {
      const auto place = places.find({method.name, name});
      CaseResult* result = place == places.end() ? nullptr : &results[place->second];
      if (result != nullptr && !result->error.empty()) {
        evaluation.problems.push_back(
            {ProblemKind::kUnreadable, method.name, name, result->error, true});
        result = nullptr;
      }
      if (result == nullptr) {
        add_unscored(options, plan.regions, method.name, name, evaluation.rows);
        continue;
      }
      for (metrics::Score& score : result->scores) {
        evaluation.rows.push_back({method.name, name, std::move(score.region),
                                   std::move(score.convention), std::move(score.metric),
                                   score.value, true});
      }
      if (options.pictures) {
        evaluation.pictures.push_back({method.name, name, std::move(result->png)});
      }
      evaluation.reference_ml[name] = std::move(result->reference_ml);
    }
  }
  return evaluation;
}

}  // namespace segmamba::eval
