#include "segmamba/eval/evaluate.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <map>
#include <mutex>
#include <set>
#include <tuple>

#include "listed.h"
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
  std::vector<std::pair<std::string, std::string>> notices;  // text, file
  std::string error;
};

// Leaves the cases asked for, all of which must have a reference.
Pairing restricted(Pairing pairing, const EvaluateOptions& options) {
  if (options.cases.empty()) return pairing;
  std::set<std::string> left(options.cases.begin(), options.cases.end());
  const auto is_unwanted = [&](const std::string& name) { return left.erase(name) == 0; };
  std::erase_if(pairing.pairs, [&](const CasePair& pair) { return is_unwanted(pair.name); });
  std::erase_if(pairing.missing, is_unwanted);
  // A prediction for another part of the data is nothing to remark upon.
  pairing.without_reference.clear();
  if (!left.empty()) {
    throw Error(concat(left.size(), " of the cases asked for have no reference in ",
                       options.reference.string(), ": ",
                       listed(std::vector<std::string>(left.begin(), left.end()))));
  }
  return pairing;
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

// What label 4 means here, with kAuto resolved as far as it does not depend on the file.
struct LabelRule {
  LabelFour four;
  bool brats_labels;     // only BraTS regions are asked for: other labels than 0 to 4 are odd
  std::string why_kept;  // a notice for files that hold label 4
};

LabelRule label_rule(const EvaluateOptions& options) {
  const auto& brats = metrics::brats_regions();
  const bool brats_regions =
      std::all_of(options.regions.begin(), options.regions.end(), [&](const metrics::Region& r) {
        return std::any_of(brats.begin(), brats.end(), [&](const metrics::Region& known) {
          return known.name == r.name && known.labels == r.labels;
        });
      });
  LabelRule rule{options.label_four, brats_regions, ""};
  if (rule.four != LabelFour::kAuto) return rule;
  if (!brats_regions) rule.four = LabelFour::kKeep;
  for (const auto& convention : options.conventions) {
    if (convention.name != "brats2024") continue;
    rule.four = LabelFour::kKeep;
    rule.why_kept =
        "label 4 is taken as the resection cavity, since brats2024 is asked for (--label-4 et "
        "reads "
        "it as enhancing tumour)";
  }
  return rule;
}

std::array<bool, 256> labels_in(const io::LabelMap& map) {
  std::array<bool, 256> present{};
  for (const std::uint8_t label : map.voxels) present[label] = true;
  return present;
}

// Label 4 becomes 3 where `rule` says so. Returns what a user should know, if anything.
std::vector<std::string> apply(const LabelRule& rule, io::LabelMap& labels) {
  const auto present = labels_in(labels);
  std::vector<std::string> notices;
  if (rule.brats_labels &&
      std::find(present.begin() + kFour + 1, present.end(), true) != present.end()) {
    notices.emplace_back("labels above 4 belong to no region");
  }
  if (!present[kFour]) return notices;
  if (rule.four == LabelFour::kKeep) {
    if (!rule.why_kept.empty()) notices.push_back(rule.why_kept);
  } else if (rule.four == LabelFour::kAuto && present[kEnhancing]) {
    notices.emplace_back("labels 3 and 4 both occur; label 4 is not scored as enhancing tumour");
  } else {
    std::replace(labels.voxels.begin(), labels.voxels.end(), kFour, kEnhancing);
    notices.emplace_back("label 4 is read as enhancing tumour (3), as in older BraTS releases");
  }
  return notices;
}

CaseResult score_pair(const CasePair& pair, const EvaluateOptions& options, const LabelRule& rule) {
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
    for (std::string& notice : apply(rule, *side)) {
      result.notices.emplace_back(std::move(notice), path.string());
    }
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
    const Pairing pairing = restricted(pair_cases(method.predictions, options.reference), options);
    if (!pairing.missing.empty() && !options.allow_missing) {
      throw Error(
          concat(method.predictions.string(), ": ", pairing.missing.size(), " of ",
                 pairing.missing.size() + pairing.pairs.size(),
                 " reference cases have no prediction: ", listed(pairing.missing),
                 "; pass --allow-missing to score the others, or --split to score one part of the "
                 "data"));
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

  const LabelRule rule = label_rule(options);
  const auto total = static_cast<std::int64_t>(tasks.size());
  std::vector<CaseResult> results(tasks.size());
  std::mutex progress_mutex;
  std::int64_t done = 0;
  parallel_for(total, [&](std::int64_t i) {
    try {
      results[i] = score_pair(tasks[i].pair, options, rule);
    } catch (const Error& error) {
      results[i].error = error.what();
    }
    const std::scoped_lock lock(progress_mutex);
    if (progress) progress(++done, total);
  });
  throw_errors(tasks, results);

  // Files by notice; a reference is read once for each method.
  std::map<std::string, std::set<std::string>> notices;
  for (std::size_t i = 0; i < tasks.size(); ++i) {
    for (const metrics::Score& score : results[i].scores) {
      evaluation.rows.push_back({tasks[i].method, tasks[i].pair.name, score.region,
                                 score.convention, score.metric, score.value});
    }
    for (const auto& [text, path] : results[i].notices) notices[text].insert(path);
  }
  for (const auto& [text, files] : notices) {
    evaluation.notices.push_back(
        concat(text, ": ", listed(std::vector<std::string>(files.begin(), files.end()))));
  }
  if (!evaluation.without_reference.empty()) {
    evaluation.notices.push_back(
        concat(evaluation.without_reference.size(),
               " predictions have no reference: ", listed(evaluation.without_reference)));
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
