#pragma once
// Scores of many cases.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "segmamba/eval/problem.h"
#include "segmamba/eval/published.h"
#include "segmamba/metrics/convention.h"
#include "segmamba/metrics/mask.h"

namespace segmamba::eval {

struct Method {
  std::string name;
  std::filesystem::path predictions;  // a folder or a file, as in pairing.h
};

// What label 4 means. Releases of BraTS before 2023 use it for the enhancing tumour, BraTS-GLI 2024
// for the resection cavity.
enum class LabelFour {
  // Enhancing tumour in a file that has no label 3; each convention for itself: brats2024 keeps it,
  // and so does everything where other regions than WT, TC and ET are asked for.
  kAuto,
  kEnhancing,  // always label 3
  kKeep,
};

// What is scored as one binary mask, and which labels may occur.
struct RegionSet {
  std::vector<metrics::Region> regions = metrics::brats_regions();
  // Each label that occurs in any file is a region of its own, named by its number; `regions` is
  // then not used.
  bool each_label = false;
  // Labels beside 0 that are no problem; empty: no check.
  std::vector<std::uint8_t> known_labels = {1, 2, 3, 4};
};

struct EvaluateOptions {
  std::vector<Method> methods;
  std::filesystem::path reference;
  // Score these cases only, e.g. one part of a split; empty: every reference. A name that has no
  // reference is an error.
  std::vector<std::string> cases;
  std::vector<metrics::Convention> conventions;
  RegionSet regions;
  std::vector<std::string> metrics;  // empty: all that the conventions have
  LabelFour label_four = LabelFour::kAuto;
  bool ignore_geometry = false;  // sizes must agree all the same
  bool allow_missing = false;    // a missing prediction is no problem
  bool pictures = false;         // fill Evaluation::pictures
};

struct CasePair {
  std::string method, case_name;
  std::filesystem::path prediction, reference;
};

// What will be scored, and everything that is wrong with the input. Nothing has been scored yet.
struct Plan {
  std::vector<CasePair> pairs;     // by method, then by case; those that can be scored
  std::vector<Problem> problems;   // by method, then by case
  std::vector<std::string> cases;  // by name: every case of the reference that was asked for
  std::vector<metrics::Region> regions;
  std::vector<std::string> notices;  // no problems, but worth knowing: label 4 read as 3
};

struct Row {
  std::string method, case_name, region, convention, metric;
  double value;        // nan where not scored
  bool scored = true;  // false: the case could not be scored, see Evaluation::problems
};

struct CasePicture {
  std::string method, case_name;
  std::string png;  // where prediction and reference differ; bytes of a file
};

struct Evaluation {
  std::vector<Method> methods;
  std::vector<metrics::Convention> conventions;  // in the order asked for
  std::vector<metrics::Region> regions;
  std::vector<Row> rows;           // by method, case, region, convention, metric
  std::vector<std::string> cases;  // all of Plan::cases
  std::vector<Problem> problems;
  std::vector<std::string> notices;
  std::map<std::string, std::map<std::string, double>> reference_ml;  // [case][region], mL
  std::vector<CasePicture> pictures;                                  // by method, then by case
  std::vector<PublishedScores> published;  // rows of the main table that were not measured here
};

using ProgressCallback = std::function<void(std::int64_t done, std::int64_t total)>;

// Pairs the files and looks through all of them, in parallel: headers and voxels. `progress` is
// called from one thread at a time. Throws UsageError for a metric that none of the conventions
// has, and Error where a folder does not exist or nothing can be paired.
Plan plan_evaluation(const EvaluateOptions& options, const ProgressCallback& progress = {});

// Scores the pairs of `plan`, cases in parallel. The cases that cannot be scored get rows of nan
// that say so. A file that has become unreadable since is added to the problems.
Evaluation evaluate(const EvaluateOptions& options, const Plan& plan,
                    const ProgressCallback& progress = {});

}  // namespace segmamba::eval
