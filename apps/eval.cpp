// segmamba-eval: tables of predictions against references, by the rules of named tools.
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "app_main.h"
#include "segmamba/core/error.h"
#include "segmamba/core/file_lock.h"
#include "segmamba/core/files.h"
#include "segmamba/core/log.h"
#include "segmamba/core/parallel.h"
#include "segmamba/core/progress.h"
#include "segmamba/core/text.h"
#include "segmamba/data/split.h"
#include "segmamba/eval/analysis.h"
#include "segmamba/eval/evaluate.h"
#include "segmamba/eval/options.h"
#include "segmamba/eval/report.h"
#include "segmamba/eval/tune_postprocess.h"

namespace {

using namespace segmamba;

constexpr int kScoredWithProblems = 3;

struct Options {
  std::vector<std::string> predictions, conventions, metrics, regions;
  std::filesystem::path reference, output, split, tuned;
  std::vector<std::string> published;
  std::string part = "test", label_four = "auto";
  bool explain = false, ignore_geometry = false, allow_missing = false;
  bool strict = false, overwrite = false, no_html = false, no_pictures = false;
  std::int64_t threads = 0, resamples = 10000, worst = 5;
  std::uint64_t seed = 1;
};

// A progress bar for what takes long enough to wait for; another one where the work starts anew.
eval::ProgressCallback late_progress(const std::string& label) {
  return [label, start = std::chrono::steady_clock::now(), progress = std::shared_ptr<Progress>()](
             std::int64_t done, std::int64_t total) mutable {
    const bool is_long = std::chrono::steady_clock::now() - start > std::chrono::seconds(2);
    if (done == 1) progress.reset();
    if (!progress && is_long) progress = std::make_shared<Progress>(label, total);
    if (progress) progress->update(done);
  };
}

// One line a problem; of many of a kind the first ones.
void print_problems(const std::vector<eval::Problem>& problems) {
  constexpr std::int64_t kShown = 20;
  std::map<eval::ProblemKind, std::int64_t> counts;
  for (const eval::Problem& problem : problems) {
    if (++counts[problem.kind] > kShown) continue;
    log_warning(concat(to_string(problem.kind), ": ",
                       problem.method.empty() ? "reference" : problem.method, ", case ",
                       problem.case_name, ": ", problem.text));
  }
  for (const auto& [kind, count] : counts) {
    if (count <= kShown) continue;
    log_warning(concat(to_string(kind), ": ", count - kShown,
                       " more; --output writes all of them to problems.csv"));
  }
}

eval::EvaluateOptions evaluate_options(const Options& options) {
  eval::EvaluateOptions result;
  result.conventions = eval::parse_conventions(options.conventions);
  result.metrics = eval::parse_metrics(options.metrics, result.conventions);
  if (options.explain) return result;
  if (options.predictions.empty()) throw UsageError("--prediction is required; see --help");
  if (options.reference.empty()) throw UsageError("--reference is required; see --help");
  result.methods = eval::parse_methods(options.predictions);
  result.reference = options.reference;
  result.regions = eval::parse_regions(options.regions);
  result.label_four = eval::parse_label_four(options.label_four);
  result.ignore_geometry = options.ignore_geometry;
  result.allow_missing = options.allow_missing;
  result.pictures = !options.output.empty() && !options.no_html && !options.no_pictures;
  if (!options.split.empty()) {
    result.cases = data::split_part(data::read_split(options.split), options.part);
    if (result.cases.empty()) {
      throw Error(concat(options.split.string(), ": part ", options.part, " has no cases"));
    }
  }
  return result;
}

// Throws where `folder`, or the lowest one above it that exists, cannot be written in.
void check_writable(const std::string& option, const std::filesystem::path& folder) {
  std::filesystem::path existing = std::filesystem::absolute(folder);
  while (!std::filesystem::exists(existing)) existing = existing.parent_path();
  if (::access(existing.c_str(), W_OK | X_OK) != 0) {
    throw Error(
        concat(option, ": cannot write in ", existing.string(), ": ", std::strerror(errno)));
  }
}

void refuse_unasked(const Options& options) {
  if (options.overwrite || !eval::holds_reports(options.output)) return;
  throw Error(concat("--output ", options.output.string(),
                     " already holds scores; pass --overwrite to replace them"));
}

// Before the work, so that it is not lost.
void check_output(const Options& options) {
  if (options.output.empty()) return;
  if (std::filesystem::exists(options.output) && !std::filesystem::is_directory(options.output)) {
    throw Error(concat("--output ", options.output.string(), ": is a file, not a folder"));
  }
  refuse_unasked(options);
  check_writable(concat("--output ", options.output.string()), options.output);
}

// The output folder, which is made, as long as this lasts. Another evaluation may have ended in it
// since it was looked at.
std::unique_ptr<FolderLock> take_output(const Options& options) {
  auto lock = std::make_unique<FolderLock>(options.output);
  refuse_unasked(options);
  return lock;
}

void check_tuning(const Options& options, const eval::EvaluateOptions& to_do) {
  constexpr std::int64_t kFewestResamples = 100;
  eval::check_tuning(to_do);
  if (!options.output.empty()) {
    throw UsageError("--tune-postprocess writes one file; --output is for scores");
  }
  if (options.resamples < kFewestResamples) {
    throw UsageError(concat("--tune-postprocess needs --resamples of at least ", kFewestResamples));
  }
  const std::string option = concat("--tune-postprocess ", options.tuned.string());
  if (std::filesystem::is_directory(options.tuned)) {
    throw Error(option + ": is a folder, not a file");
  }
  if (!options.overwrite && std::filesystem::exists(options.tuned)) {
    throw Error(option + " exists; pass --overwrite to replace it");
  }
  check_writable(option, std::filesystem::absolute(options.tuned).parent_path());
}

void tune(const Options& options, const eval::EvaluateOptions& to_do, const eval::Plan& plan) {
  const eval::Tuning tuning = eval::tune_postprocess(to_do, plan, {options.resamples, options.seed},
                                                     late_progress("tuning"));
  std::fputs(eval::tuning_text(tuning).c_str(), stdout);
  if (options.tuned.has_parent_path()) make_folders(options.tuned.parent_path());
  write_file_atomically(options.tuned, eval::tuning_yaml(tuning));
  log_info(concat("wrote ", options.tuned.string(),
                  tuning.rules.empty() ? ", which switches nothing on" : ""));
}

void run(const Options& options) {
  const eval::EvaluateOptions to_do = evaluate_options(options);
  if (options.explain) {
    for (const auto& convention : to_do.conventions) {
      std::printf("%s\n", metrics::explain(convention).c_str());
    }
    return;
  }
  if (options.threads < 0) throw UsageError("--threads must not be negative");
  if (options.resamples < 0 || options.resamples > 1000000) {
    throw UsageError("--resamples must lie between 0 and 1000000");
  }
  if (!options.tuned.empty()) check_tuning(options, to_do);
  if (options.worst < 0) throw UsageError("--worst must not be negative");
  if (options.threads > 0) set_thread_count(static_cast<int>(options.threads));
  check_output(options);
  // A new folder is not made before it is known that something can be scored.
  std::unique_ptr<FolderLock> lock;
  if (std::filesystem::is_directory(options.output)) lock = take_output(options);
  std::vector<eval::PublishedScores> published;
  for (const auto& path : options.published) published.push_back(eval::read_published(path));

  const eval::Plan plan = eval::plan_evaluation(to_do, late_progress("checking"));
  for (const std::string& notice : plan.notices) log_warning(notice);
  print_problems(plan.problems);
  const std::string count =
      concat(plan.problems.size(), plan.problems.size() == 1 ? " problem" : " problems");
  if (options.strict && !plan.problems.empty()) {
    throw Error(concat(count, " of the input, listed above; nothing was scored (--strict)"));
  }
  if (plan.pairs.empty()) throw Error("no case can be scored");

  if (!options.tuned.empty()) {
    tune(options, to_do, plan);
    if (!plan.problems.empty()) apps::CommandLine::set_exit_code(kScoredWithProblems);
    return;
  }
  if (!lock && !options.output.empty()) lock = take_output(options);
  eval::Evaluation evaluation = eval::evaluate(to_do, plan, late_progress("scoring"));
  evaluation.published = published;
  print_problems({evaluation.problems.begin() + static_cast<std::ptrdiff_t>(plan.problems.size()),
                  evaluation.problems.end()});
  const eval::Analysis analysis =
      eval::analyse(evaluation, {options.resamples, options.seed, options.worst});
  std::fputs(eval::table_text(evaluation, analysis).c_str(), stdout);
  if (!options.output.empty()) {
    eval::write_reports(evaluation, analysis, options.output, !options.no_html);
    log_info(concat("wrote the scores to ", options.output.string(),
                    options.no_html ? "" : "; report.html shows them in a browser"));
  }
  if (!evaluation.problems.empty()) apps::CommandLine::set_exit_code(kScoredWithProblems);
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  apps::CommandLine line(
      "segmamba-eval", "Scores segmentations against references, by the rules of named tools.",
      "Examples:\n"
      "  segmamba-eval --prediction predictions --reference BraTS2023 --output scores\n"
      "  segmamba-eval --prediction A=runs/a --prediction B=runs/b --reference BraTS2023 \\\n"
      "                --convention segmamba,brats2023 --output scores\n"
      "  segmamba-eval -p predictions -r labelsTr --regions organs.yaml --metrics dice,nsd_2mm\n"
      "  segmamba-eval -p predictions -r BraTS2023 --split split.yaml --part validation \\\n"
      "                --tune-postprocess post.yaml   # for segmamba-infer --postprocess "
      "post.yaml\n"
      "  segmamba-eval --explain --convention medpy,monai\n"
      "Cases are paired by name, whatever the suffix: CASE.nii.gz, CASE-seg.nii.gz, "
      "CASE_pred.nii,\n"
      "CASE/CASE-seg.nii.gz, CASE/seg.nii.gz, labelsTr/CASE.nii.gz.\n"
      "A file of regions holds, e.g.\n"
      "  regions: {kidney: [1, 2], tumour: [2]}   # each the labels scored as one mask\n"
      "  labels: [1, 2]                           # optional: all that may occur\n"
      "The output folder gets cases.csv, summary.json, table.md, table.tex and report.html.\n"
      "Exit code: 0; 1 error; 2 usage; 3 scored, but the input has problems (cases without scores\n"
      "are marked and left out of the means; --strict scores nothing then).");
  line.option("--prediction,-p", options.predictions,
              "Folder (or file) of predictions; NAME=DIR to compare several methods");
  line.option("--reference,-r", options.reference,
              "Folder (or file, or CSV list of cases) of references");
  line.option("--convention,-c", options.conventions,
              "Comma-separated: " + eval::convention_names() + ", or all; default segmamba");
  line.option("--output,-o", options.output, "Folder for the tables and the report");
  line.option(
      "--metrics", options.metrics,
      "Comma-separated; default those of the convention's tool. Every convention can give " +
          join(metrics::general_metrics(), ", ") + " (nsd_<T>mm for any T), or all");
  line.option("--regions", options.regions,
              "Comma-separated: WT, TC, ET, NETC, SNFH, RC or NAME=1+2; or labels (each label that "
              "occurs); or a YAML file; default WT,TC,ET");
  line.option(
      "--label-4", options.label_four,
      "Label 4: 'et' (older BraTS), 'keep', or 'auto' (et where a file has no label 3; kept "
      "by brats2024 and for other regions)");
  line.option("--published", options.published,
              "CSV file of scores that others report, shown below: method, WT Dice, WT HD95, ..., "
              "avg Dice, avg HD95");
  line.option("--split", options.split, "Score only the cases of one part of this split file");
  line.option("--part", options.part, "With --split: train, validation or test");
  line.option("--tune-postprocess", options.tuned,
              "Find the rules over connected parts, volumes and holes that make the predictions "
              "better, by cross-validation, and write them to this YAML file; by one metric of one "
              "convention, default lesion_dice where it has it, else dice");
  line.flag("--strict", options.strict, "Score nothing where the input has any problem");
  line.flag("--ignore-geometry", options.ignore_geometry,
            "Compare voxel by voxel although the headers disagree (sizes must be equal)");
  line.flag("--allow-missing", options.allow_missing, "A missing prediction is no problem");
  line.flag("--overwrite", options.overwrite, "Replace the scores in the output folder");
  line.flag("--no-html", options.no_html, "Do not write report.html");
  line.flag("--no-pictures", options.no_pictures,
            "Write report.html without pictures of the cases");
  line.option("--resamples", options.resamples, "Of the bootstrap intervals; 0: no intervals");
  line.option("--seed", options.seed, "Of the bootstrap");
  line.option("--worst", options.worst, "Worst cases listed for each method and convention");
  line.flag("--explain", options.explain,
            "Print what each convention counts for empty masks, spacing, percentile and border");
  line.option("--threads", options.threads, "Cases at a time; 0: one a processor");
  return line.run(argc, argv, [&] { run(options); });
}
