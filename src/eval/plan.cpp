// Pairs the files of an evaluation and looks through all of them before anything is scored.
#include <algorithm>
#include <map>
#include <mutex>
#include <new>
#include <optional>
#include <set>
#include <tuple>

#include "labels.h"
#include "listed.h"
#include "segmamba/core/error.h"
#include "segmamba/core/parallel.h"
#include "segmamba/core/text.h"
#include "segmamba/eval/evaluate.h"
#include "segmamba/eval/pairing.h"
#include "segmamba/io/volume.h"

namespace segmamba::eval {
namespace {

namespace fs = std::filesystem;

using LabelFiles = std::map<std::string, std::vector<fs::path>>;

// What one look at a file tells.
struct FileFacts {
  io::Geometry geometry;
  LabelCounts labels{};
  std::optional<ProblemKind> problem;
  std::string error;
};

FileFacts look_at(const fs::path& path) {
  FileFacts facts;
  try {
    const io::LabelMap map = io::read_labels(path);
    facts.geometry = map.geometry;
    facts.geometry.header = nullptr;  // thousands of files are looked at
    facts.labels = count_labels(map.voxels);
  } catch (const io::NotLabelsError& error) {
    facts.problem = ProblemKind::kNotIntegers;
    facts.error = error.what();
  } catch (const Error& error) {
    facts.problem = ProblemKind::kUnreadable;
    facts.error = error.what();
  } catch (const std::bad_alloc&) {
    facts.problem = ProblemKind::kUnreadable;
    facts.error = concat(path.string(), ": not enough memory to read it");
  }
  return facts;
}

// Each file once, in parallel.
std::map<fs::path, FileFacts> look_at_all(const std::set<fs::path>& paths,
                                          const ProgressCallback& progress) {
  const std::vector<fs::path> list(paths.begin(), paths.end());
  std::vector<FileFacts> facts(list.size());
  const auto total = static_cast<std::int64_t>(list.size());
  std::mutex mutex;
  std::int64_t done = 0;
  parallel_for(total, [&](std::int64_t i) {
    facts[i] = look_at(list[i]);
    const std::scoped_lock lock(mutex);
    if (progress) progress(++done, total);
  });
  std::map<fs::path, FileFacts> by_path;
  for (std::size_t i = 0; i < list.size(); ++i) by_path.emplace(list[i], std::move(facts[i]));
  return by_path;
}

class Planner {
 public:
  explicit Planner(const EvaluateOptions& options) : options_(options) {}

  Plan make(const ProgressCallback& progress) {
    references_ = find_label_files(options_.reference);
    choose_cases();
    for (const std::string& name : plan_.cases) {
      const auto& files = references_.at(name);
      if (files.size() > 1) add_doubled("", name, files);
      wanted_.insert(files.begin(), files.end());
    }
    for (const Method& method : options_.methods) pair_method(method);
    facts_ = look_at_all(wanted_, progress);
    for (const std::string& name : plan_.cases) {
      for (const fs::path& path : references_.at(name)) check_file("", name, path);
    }
    for (const auto& [method, name, path] : predictions_) check_file(method, name, path);
    keep_scorable_pairs();
    choose_regions();
    make_notices();
    sort_problems();
    return std::move(plan_);
  }

 private:
  void choose_cases() {
    if (options_.cases.empty()) {
      for (const auto& [name, files] : references_) plan_.cases.push_back(name);
      return;
    }
    std::vector<std::string> unknown;
    const std::set<std::string> asked(options_.cases.begin(), options_.cases.end());
    for (const std::string& name : asked) {
      (references_.contains(name) ? plan_.cases : unknown).push_back(name);
    }
    if (!unknown.empty()) {
      throw Error(concat(unknown.size(), " of the cases asked for have no reference in ",
                         options_.reference.string(), ": ", listed(unknown)));
    }
  }

  void pair_method(const Method& method) {
    LabelFiles predictions = find_label_files(method.predictions);
    // Two single files are a pair whatever their names.
    if (!fs::is_directory(options_.reference) && !fs::is_directory(method.predictions)) {
      predictions = {{plan_.cases.front(), {method.predictions}}};
    }
    std::vector<std::string> missing;
    for (const std::string& name : plan_.cases) {
      const auto found = predictions.find(name);
      if (found == predictions.end()) {
        missing.push_back(name);
        continue;
      }
      const auto& files = found->second;
      for (const fs::path& path : files) predictions_.emplace_back(method.name, name, path);
      wanted_.insert(files.begin(), files.end());
      if (files.size() > 1) {
        add_doubled(method.name, name, files);
      } else if (references_.at(name).size() == 1) {
        plan_.pairs.push_back({method.name, name, files.front(), references_.at(name).front()});
      }
    }
    if (options_.allow_missing) {
      if (!missing.empty()) {
        plan_.notices.push_back(
            concat(method.name, ": ", missing.size(), " of ", plan_.cases.size(),
                   " cases without a prediction are left out: ", listed(missing)));
      }
    } else {
      for (const std::string& name : missing) {
        add(ProblemKind::kMissing, method.name, name,
            concat("no prediction in ", method.predictions.string()), true);
      }
    }
    if (!options_.cases.empty()) return;  // a prediction for another part of the data is no problem
    for (const auto& [name, files] : predictions) {
      if (references_.contains(name)) continue;
      add(ProblemKind::kExtra, method.name, name,
          concat(files.front().string(), " has no reference in ", options_.reference.string()),
          false);
    }
  }

  void add(ProblemKind kind, const std::string& method, const std::string& name,
           const std::string& text, bool prevents_scoring) {
    plan_.problems.push_back({kind, method, name, text, prevents_scoring});
  }

  void add_doubled(const std::string& method, const std::string& name,
                   const std::vector<fs::path>& files) {
    std::vector<std::string> names(files.size());
    std::transform(files.begin(), files.end(), names.begin(),
                   [](const fs::path& path) { return path.string(); });
    add(ProblemKind::kDoubled, method, name,
        concat(files.size(), " label files, ", join(names, " and "), "; keep one of them"), true);
  }

  void check_file(const std::string& method, const std::string& name, const fs::path& path) {
    const FileFacts& facts = facts_.at(path);
    if (facts.problem) {
      add(*facts.problem, method, name, facts.error, true);
      return;
    }
    const auto& known = options_.regions.known_labels;
    if (known.empty() || options_.regions.each_label) return;
    std::vector<int> unknown;
    std::int64_t voxels = 0;
    for (int label = 1; label < 256; ++label) {
      if (facts.labels[label] == 0) continue;
      if (std::find(known.begin(), known.end(), label) != known.end()) continue;
      unknown.push_back(label);
      voxels += facts.labels[label];
    }
    if (unknown.empty()) return;
    std::vector<int> map(known.begin(), known.end());
    add(ProblemKind::kLabels, method, name,
        concat(path.string(), " holds ", unknown.size() == 1 ? "label " : "labels ",
               join(unknown, ", "), " (", voxels, voxels == 1 ? " voxel" : " voxels",
               "), which the label map 0, ", join(map, ", "), " lacks; they count as no region"),
        false);
  }

  void keep_scorable_pairs() {
    std::vector<CasePair> pairs;
    std::vector<std::string> other_geometry;
    for (CasePair& pair : plan_.pairs) {
      const FileFacts &p = facts_.at(pair.prediction), &g = facts_.at(pair.reference);
      if (p.problem || g.problem) continue;
      if (p.geometry.size != g.geometry.size) {
        add(ProblemKind::kSize, pair.method, pair.case_name,
            concat(pair.prediction.string(), " has ", join(p.geometry.size, "x"), " voxels and ",
                   pair.reference.string(), " ", join(g.geometry.size, "x"),
                   "; resample the prediction to the reference's grid"),
            true);
        continue;
      }
      const std::string difference = io::geometry_difference(p.geometry, g.geometry);
      if (!difference.empty() && !options_.ignore_geometry) {
        add(ProblemKind::kGeometry, pair.method, pair.case_name,
            concat(pair.prediction.string(), " and ", pair.reference.string(),
                   " are not on one grid: ", difference,
                   "; pass --ignore-geometry if only the header is wrong"),
            true);
        continue;
      }
      if (!difference.empty()) {
        other_geometry.push_back(concat(pair.method, " ", pair.case_name, ": ", difference));
      }
      pairs.push_back(std::move(pair));
    }
    plan_.pairs = std::move(pairs);
    if (!other_geometry.empty()) {
      plan_.notices.push_back(
          concat("geometry that differs is ignored in ", other_geometry.size(),
                 other_geometry.size() == 1 ? " case: " : " cases: ", listed(other_geometry)));
    }
  }

  void choose_regions() {
    plan_.regions = options_.regions.regions;
    if (!options_.regions.each_label) return;
    plan_.regions.clear();
    for (int label = 1; label < 256; ++label) {
      const bool occurs = std::any_of(facts_.begin(), facts_.end(), [&](const auto& item) {
        return item.second.labels[label] > 0;
      });
      if (occurs)
        plan_.regions.push_back({std::to_string(label), {static_cast<std::uint8_t>(label)}});
    }
  }

  void make_notices() {
    std::map<std::string, std::vector<std::string>> files;  // by notice
    for (const auto& [path, facts] : facts_) {
      const std::string notice = label_four_notice(options_, facts.labels);
      if (!notice.empty()) files[notice].push_back(path.string());
    }
    for (const auto& [notice, paths] : files) {
      plan_.notices.push_back(concat(notice, ": ", listed(paths)));
    }
  }

  // By method in the order asked for, the references first; then by case.
  void sort_problems() {
    std::map<std::string, std::size_t> order = {{"", 0}};
    for (const Method& method : options_.methods) order.emplace(method.name, order.size());
    std::stable_sort(plan_.problems.begin(), plan_.problems.end(),
                     [&](const Problem& a, const Problem& b) {
                       return std::tie(order.at(a.method), a.case_name) <
                              std::tie(order.at(b.method), b.case_name);
                     });
  }

  const EvaluateOptions& options_;
  Plan plan_;
  LabelFiles references_;
  std::vector<std::tuple<std::string, std::string, fs::path>> predictions_;  // method, case, file
  std::set<fs::path> wanted_;
  std::map<fs::path, FileFacts> facts_;
};

}  // namespace

std::string to_string(ProblemKind kind) {
  switch (kind) {
    case ProblemKind::kMissing:
      return "missing";
    case ProblemKind::kExtra:
      return "extra";
    case ProblemKind::kDoubled:
      return "doubled";
    case ProblemKind::kUnreadable:
      return "unreadable";
    case ProblemKind::kNotIntegers:
      return "not-integers";
    case ProblemKind::kSize:
      return "size";
    case ProblemKind::kGeometry:
      return "geometry";
    case ProblemKind::kLabels:
      break;
  }
  return "labels";
}

Plan plan_evaluation(const EvaluateOptions& options, const ProgressCallback& progress) {
  if (options.conventions.empty()) throw UsageError("no convention to score by");
  if (options.methods.empty()) throw UsageError("no predictions to score");
  return Planner(options).make(progress);
}

}  // namespace segmamba::eval
