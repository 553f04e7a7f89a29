#pragma once
// Scores of many cases, and their summary.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

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
  // Enhancing tumour in a file that has no label 3, unless brats2024 is asked for, or other regions
  // than WT, TC and ET.
  kAuto,
  kEnhancing,  // always label 3
  kKeep,
};

struct EvaluateOptions {
  std::vector<Method> methods;
  std::filesystem::path reference;
  // Score these cases only, e.g. one part of a split; empty: every reference. A name that has no
  // reference is an error.
  std::vector<std::string> cases;
  std::vector<metrics::Convention> conventions;
  std::vector<metrics::Region> regions = metrics::brats_regions();
  std::vector<std::string> metrics;  // empty: all that the conventions have
  LabelFour label_four = LabelFour::kAuto;
  bool ignore_geometry = false;  // sizes must agree all the same
  bool allow_missing = false;    // score the cases that have a prediction
};

struct Row {
  std::string method, case_name, region, convention, metric;
  double value;
};

struct Evaluation {
  std::vector<Method> methods;
  std::vector<metrics::Convention> conventions;  // in the order asked for
  std::vector<metrics::Region> regions;
  std::vector<Row> rows;                       // by method, case, region, convention, metric
  std::vector<std::string> cases;              // scored for at least one method
  std::vector<std::string> missing;            // "method: case" without a prediction
  std::vector<std::string> without_reference;  // "method: case"
  std::vector<std::string> notices;            // e.g. label 4 read as 3
};

// Scores every case of every method, cases in parallel. `progress` is called, from one thread at a
// time, with the number of cases done and in all. Throws UsageError for a metric that none of the
// conventions has, and Error where predictions are missing, files cannot be read, or grids differ;
// the message names the cases.
Evaluation evaluate(const EvaluateOptions& options,
                    const std::function<void(std::int64_t, std::int64_t)>& progress = {});

// Over the cases of one method, region, convention and metric. Values that are nan are left out of
// mean, std and median and counted; infinite values are kept, so that they show in the mean.
struct Summary {
  std::string method, region, convention, metric;
  double mean = 0, std = 0, median = 0;  // std: of the population (n, not n - 1)
  std::int64_t cases = 0;                // all
  std::int64_t nan = 0, inf = 0;         // of them
};

// In the order of the rows' first appearance.
std::vector<Summary> summarise(const std::vector<Row>& rows);

}  // namespace segmamba::eval
