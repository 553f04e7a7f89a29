#include "segmamba/eval/evaluate.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <mutex>
#include <set>
#include <tuple>

#include "segmamba/core/error.h"
#include "segmamba/core/log.h"
#include "segmamba/core/parallel.h"
#include "segmamba/core/text.h"
#include "segmamba/eval/pairing.h"
#include "segmamba/io/volume.h"
#include "segmamba/metrics/score.h"

namespace segmamba::eval {
namespace {

constexpr std::uint8_t kEnhancing = 3, kFour = 4;

struct Task {
  std::string method;
  CasePair pair;
};

struct CaseResult {
  std::vector<metrics::Score> scores;
  std::vector<std::string> notices;
  std::string error;
};

// "a, b, c and 9 more"
std::string listed(const std::vector<std::string>& names) {
  constexpr std::size_t kShown = 3;
  const std::size_t shown = std::min(names.size(), kShown);
  std::string text = join(std::vector<std::string>(names.begin(), names.begin() + shown), ", ");
  if (names.size() > shown) text += concat(" and ", names.size() - shown, " more");
  return text;
}

void check_metrics(const EvaluateOptions& options) {
  std::vector<std::string> known;
  for (const auto& convention : options.conventions) {
    for (const auto& rule : convention.metrics) known.push_back(rule.name);
  }
  for (const std::string& metric : options.metrics) {
    if (std::find(known.begin(), known.end(), metric) != known.end()) continue;
    const std::string near = nearest(metric, known);
    throw UsageError(concat("none of the conventions asked for has a metric '", metric, "'",
                            near.empty() ? "" : concat("; did you mean '", near, "'?")));
  }
}

LabelFour resolve(const EvaluateOptions& options) {
  if (options.label_four != LabelFour::kAuto) return options.label_four;
  for (const auto& convention : options.conventions) {
    if (convention.name == "brats2024") return LabelFour::kKeep;
  }
  for (const auto& region : options.regions) {
    const auto& labels = region.labels;
    if (std::find(labels.begin(), labels.end(), kFour) != labels.end()) return LabelFour::kKeep;
  }
  return LabelFour::kAuto;
}

// Label 4 becomes 3 where `rule` says so; "" or a notice.
std::string map_label_four(io::LabelMap& labels, LabelFour rule, const std::string& path) {
  if (rule == LabelFour::kKeep) return "";
  std::uint8_t seen = 0;  // bit 0: label 3; bit 1: label 4
  for (const std::uint8_t label : labels.voxels) {
    seen |= static_cast<std::uint8_t>((label == kEnhancing) | (label == kFour) << 1);
  }
  if ((seen & 2u) == 0) return "";
  if (rule == LabelFour::kAuto && (seen & 1u) != 0) {
    return concat(path, ": labels 3 and 4 both occur; label 4 is not scored as ET");
  }
  std::replace(labels.voxels.begin(), labels.voxels.end(), kFour, kEnhancing);
  return concat(path, ": label 4 is read as enhancing tumour (3), as in older BraTS releases");
}

CaseResult score_pair(const CasePair& pair, const EvaluateOptions& options, LabelFour label_four) {
  io::LabelMap prediction = io::read_labels(pair.prediction);
  io::LabelMap reference = io::read_labels(pair.reference);
  const std::string difference =
      prediction.geometry.size != reference.geometry.size
          ? concat("size ", join(prediction.geometry.size, "x"), " and ",
                   join(reference.geometry.size, "x"))
      : options.ignore_geometry ? ""
                                : io::geometry_difference(prediction.geometry, reference.geometry);
  if (!difference.empty()) {
    const bool same_size = prediction.geometry.size == reference.geometry.size;
    throw Error(concat("case ", pair.name, ": ", pair.prediction.string(), " and ",
                       pair.reference.string(), " are not on one grid: ", difference,
                       same_size ? "; pass --ignore-geometry if only the header is wrong" : ""));
  }
  CaseResult result;
  for (auto* side : {&prediction, &reference}) {
    const auto& path = side == &prediction ? pair.prediction : pair.reference;
    std::string notice = map_label_four(*side, label_four, path.string());
    if (!notice.empty()) result.notices.push_back(std::move(notice));
  }
  const metrics::Grid grid{reference.geometry.size, reference.geometry.spacing};
  result.scores = metrics::score_case({prediction.voxels, reference.voxels, grid}, options.regions,
                                      options.conventions, options.metrics);
  return result;
}

void throw_errors(const std::vector<Task>& tasks, const std::vector<CaseResult>& results) {
  std::string first;
  std::vector<std::string> others;
  for (std::size_t i = 0; i < results.size(); ++i) {
    if (results[i].error.empty()) continue;
    if (first.empty()) {
      first = results[i].error;
    } else {
      others.push_back(tasks[i].pair.name);
    }
  }
  if (first.empty()) return;
  if (!others.empty()) first += concat(" (other cases failed too: ", listed(others), ")");
  throw Error(first);
}

}  // namespace

Evaluation evaluate(const EvaluateOptions& options,
                    const std::function<void(std::int64_t, std::int64_t)>& progress) {
  if (options.conventions.empty()) throw UsageError("no convention to score by");
  if (options.methods.empty()) throw UsageError("no predictions to score");
  check_metrics(options);

  Evaluation evaluation;
  evaluation.methods = options.methods;
  evaluation.conventions = options.conventions;
  evaluation.regions = options.regions;

  std::vector<Task> tasks;
  std::set<std::string> cases;
  for (const Method& method : options.methods) {
    const Pairing pairing = pair_cases(method.predictions, options.reference);
    if (!pairing.missing.empty() && !options.allow_missing) {
      throw Error(concat(method.predictions.string(), ": ", pairing.missing.size(), " of ",
                         pairing.missing.size() + pairing.pairs.size(),
                         " reference cases have no prediction: ", listed(pairing.missing),
                         "; pass --allow-missing to score the others"));
    }
    for (const std::string& name : pairing.missing) {
      evaluation.missing.push_back(concat(method.name, ": ", name));
    }
    for (const std::string& name : pairing.without_reference) {
      evaluation.without_reference.push_back(concat(method.name, ": ", name));
    }
    for (const CasePair& pair : pairing.pairs) {
      tasks.push_back({method.name, pair});
      cases.insert(pair.name);
    }
  }
  if (tasks.empty()) {
    throw Error(
        concat("no case has both a prediction and a reference in ", options.reference.string()));
  }
  evaluation.cases.assign(cases.begin(), cases.end());

  const LabelFour label_four = resolve(options);
  const auto total = static_cast<std::int64_t>(tasks.size());
  std::vector<CaseResult> results(tasks.size());
  std::mutex progress_mutex;
  std::int64_t done = 0;
  parallel_for(total, [&](std::int64_t i) {
    try {
      results[i] = score_pair(tasks[i].pair, options, label_four);
    } catch (const Error& error) {
      results[i].error = error.what();
    }
    const std::scoped_lock lock(progress_mutex);
    if (progress) progress(++done, total);
  });
  throw_errors(tasks, results);

  std::set<std::string> notices;  // a reference is read once for each method
  for (std::size_t i = 0; i < tasks.size(); ++i) {
    for (const metrics::Score& score : results[i].scores) {
      evaluation.rows.push_back({tasks[i].method, tasks[i].pair.name, score.region,
                                 score.convention, score.metric, score.value});
    }
    for (const std::string& notice : results[i].notices) {
      if (notices.insert(notice).second) evaluation.notices.push_back(notice);
    }
  }
  return evaluation;
}

std::vector<Summary> summarise(const std::vector<Row>& rows) {
  using Key = std::tuple<std::string, std::string, std::string, std::string>;
  std::map<Key, std::size_t> places;
  std::vector<Summary> summaries;
  std::vector<std::vector<double>> values;
  for (const Row& row : rows) {
    const auto [place, is_new] = places.try_emplace(
        Key{row.method, row.region, row.convention, row.metric}, summaries.size());
    if (is_new) {
      Summary summary;
      std::tie(summary.method, summary.region, summary.convention, summary.metric) = place->first;
      summaries.push_back(std::move(summary));
      values.emplace_back();
    }
    Summary& summary = summaries[place->second];
    ++summary.cases;
    if (std::isnan(row.value)) {
      ++summary.nan;
      continue;
    }
    if (std::isinf(row.value)) ++summary.inf;
    values[place->second].push_back(row.value);
  }
  for (std::size_t i = 0; i < summaries.size(); ++i) {
    Summary& summary = summaries[i];
    std::vector<double>& list = values[i];
    if (list.empty()) {
      summary.mean = summary.std = summary.median = std::numeric_limits<double>::quiet_NaN();
      continue;
    }
    const auto n = static_cast<double>(list.size());
    double sum = 0;
    for (const double value : list) sum += value;
    summary.mean = sum / n;
    double squares = 0;
    for (const double value : list) squares += (value - summary.mean) * (value - summary.mean);
    summary.std = std::sqrt(squares / n);
    std::sort(list.begin(), list.end());
    const std::size_t middle = list.size() / 2;
    // Two equal neighbours are not averaged: (inf + inf) / 2 would do, but not (max + max) / 2.
    summary.median = list.size() % 2 == 1 || list[middle - 1] == list[middle]
                         ? list[middle]
                         : (list[middle - 1] + list[middle]) / 2;
  }
  return summaries;
}

}  // namespace segmamba::eval
