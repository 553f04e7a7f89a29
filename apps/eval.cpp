// segmamba-eval: Dice and HD95 tables of predictions against references.
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "app_main.h"
#include "segmamba/core/error.h"
#include "segmamba/core/log.h"
#include "segmamba/core/parallel.h"
#include "segmamba/core/progress.h"
#include "segmamba/core/text.h"
#include "segmamba/data/split.h"
#include "segmamba/eval/evaluate.h"
#include "segmamba/eval/options.h"
#include "segmamba/eval/report.h"

namespace {

using namespace segmamba;

struct Options {
  std::vector<std::string> predictions, conventions, metrics, regions;
  std::filesystem::path reference, output, split;
  std::string part = "test", label_four = "auto";
  bool explain = false, ignore_geometry = false, allow_missing = false;
  std::int64_t threads = 0;
};

void run(const Options& options) {
  eval::EvaluateOptions evaluate_options;
  evaluate_options.conventions = eval::parse_conventions(options.conventions);
  if (options.explain) {
    for (const auto& convention : evaluate_options.conventions) {
      std::printf("%s\n", metrics::explain(convention).c_str());
    }
    return;
  }
  if (options.predictions.empty()) throw UsageError("--prediction is required; see --help");
  if (options.reference.empty()) throw UsageError("--reference is required; see --help");
  evaluate_options.methods = eval::parse_methods(options.predictions);
  evaluate_options.reference = options.reference;
  if (!options.split.empty()) {
    evaluate_options.cases = data::split_part(data::read_split(options.split), options.part);
    if (evaluate_options.cases.empty()) {
      throw Error(concat(options.split.string(), ": part ", options.part, " has no cases"));
    }
  }
  evaluate_options.regions = eval::parse_regions(options.regions);
  evaluate_options.metrics = eval::split_lists(options.metrics);
  evaluate_options.label_four = eval::parse_label_four(options.label_four);
  evaluate_options.ignore_geometry = options.ignore_geometry;
  evaluate_options.allow_missing = options.allow_missing;
  if (options.threads < 0) throw UsageError("--threads must not be negative");
  if (options.threads > 0) set_thread_count(static_cast<int>(options.threads));

  if (std::filesystem::exists(options.output) && !std::filesystem::is_directory(options.output)) {
    throw Error(concat("--output ", options.output.string(), ": is a file, not a folder"));
  }

  const auto start = std::chrono::steady_clock::now();
  std::optional<Progress> progress;  // for what takes long enough to wait for
  const eval::Evaluation evaluation =
      eval::evaluate(evaluate_options, [&](std::int64_t done, std::int64_t total) {
        const bool is_long = std::chrono::steady_clock::now() - start > std::chrono::seconds(2);
        if (!progress && is_long) progress.emplace("scoring", total);
        if (progress) progress->update(done);
      });
  progress.reset();
  for (const std::string& notice : evaluation.notices) log_warning(notice);
  std::fputs(eval::table_text(evaluation).c_str(), stdout);
  if (options.output.empty()) return;
  eval::write_reports(evaluation, options.output);
  log_info(concat("wrote cases.csv, summary.json and table.md to ", options.output.string()));
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  apps::CommandLine line(
      "segmamba-eval", "Score segmentations against references, by the rules of named tools.",
      "Examples:\n"
      "  segmamba-eval --prediction predictions --reference BraTS2023 --output scores\n"
      "  segmamba-eval --prediction A=runs/a --prediction B=runs/b --reference BraTS2023 \\\n"
      "                --convention segmamba,brats2023 --output scores\n"
      "  segmamba-eval --explain --convention medpy,monai\n"
      "Cases are paired by name: CASE.nii.gz, CASE-seg.nii.gz or CASE/CASE-seg.nii.gz.");
  line.option("--prediction,-p", options.predictions,
              "Folder (or file) of predictions; NAME=DIR to compare several methods");
  line.option("--reference,-r", options.reference, "Folder (or file) of references");
  line.option("--convention,-c", options.conventions,
              "Comma-separated: " + eval::convention_names() + "; default segmamba");
  line.option("--output,-o", options.output, "Folder for cases.csv, summary.json and table.md");
  line.option("--metrics", options.metrics, "Comma-separated; default all of the conventions");
  line.option("--regions", options.regions,
              "Comma-separated: WT, TC, ET, NETC, SNFH, RC or NAME=1+2; default WT,TC,ET");
  line.option("--label-4", options.label_four,
              "Label 4: 'et' (older BraTS), 'keep', or 'auto' (et where there is no label 3)");
  line.option("--split", options.split, "Score only the cases of one part of this split file");
  line.option("--part", options.part, "With --split: train, validation or test");
  line.flag("--ignore-geometry", options.ignore_geometry,
            "Compare voxel by voxel although the headers disagree (sizes must be equal)");
  line.flag("--allow-missing", options.allow_missing, "Score the cases that have a prediction");
  line.flag("--explain", options.explain,
            "Print what each convention counts for empty masks, spacing, percentile and border");
  line.option("--threads", options.threads, "Cases at a time; 0: one a processor");
  return line.run(argc, argv, [&] { run(options); });
}
