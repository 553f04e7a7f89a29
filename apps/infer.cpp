// segmamba-infer: segments cases with trained models.

#include <algorithm>
#include <cmath>
#include <csignal>
#include <map>
#include <set>
#include <system_error>

#include "app_main.h"
#include "segmamba/core/error.h"
#include "segmamba/core/log.h"
#include "segmamba/core/memory.h"
#include "segmamba/core/progress.h"
#include "segmamba/core/text.h"
#include "segmamba/core/version.h"
#include "segmamba/data/dataset.h"
#include "segmamba/data/split.h"
#include "segmamba/engine/device.h"
#include "segmamba/engine/distributed.h"
#include "segmamba/engine/inference_run.h"
#include "segmamba/engine/precision.h"
#include "segmamba/engine/predictor.h"
#include "segmamba/post/postprocess_config.h"
#include "stop_signal.h"

namespace {

using namespace segmamba;
namespace fs = std::filesystem;

struct Options {
  std::vector<std::string> command_line, checkpoints, input, set;
  fs::path output, split, postprocess;
  std::string part = "test", device = "auto", precision = "auto", weights = "average";
  std::string max_memory, max_gpu_memory, resample_to, shard, name = "case";
  bool overwrite = false, skip_existing = false, no_tta = false, no_report = false, tune = false;
  bool probabilities = false, uncertainty = false, regions = false, pictures = false;
  double overlap = -1;
  std::int64_t threads = 0, fold = -1;
};

// Which share of the cases is this process's.
struct Shard {
  std::int64_t place = 1, count = 1;
  std::int64_t local_rank = 0;
};

Shard shard_of(const std::string& text) {
  if (text.empty()) {
    const auto rank = engine::rank_from_environment();
    return {rank.rank + 1, rank.size, rank.local_rank};
  }
  const auto parts = split(text, '/');
  const auto place = to_integer(parts[0]);
  const auto count = parts.size() == 2 ? to_integer(parts[1]) : std::nullopt;
  if (!place || !count || *count < 1 || *place < 1 || *place > *count) {
    throw UsageError(concat("--shard is ", text, ": it must be i/n with 1 <= i <= n, as 2/4"));
  }
  return {*place, *count, 0};
}

// A pipe, a device or a loop of links is there, and yet can be no channel. What is wrong else is
// said by dataset_of_files().
void check_are_files(const std::vector<std::string>& channels) {
  for (const auto& channel : channels) {
    const auto equals = channel.find('=');
    if (equals == std::string::npos) continue;
    const auto path = channel.substr(equals + 1);
    std::error_code error;
    const auto status = fs::status(path, error);
    const bool is_loop = error == std::errc::too_many_symbolic_link_levels;
    if (!is_loop && !fs::is_other(status)) continue;
    throw Error(concat("channel ", channel.substr(0, equals), ": ", path, " is no file but ",
                       is_loop ? "a loop of symbolic links" : "a pipe, a socket or a device",
                       ": give a file of an image or a folder of DICOM slices"));
  }
}

// The cases of --input: a data set, or one case of named files.
data::DatasetSurvey find_cases(const Options& options, data::DatasetConfig config) {
  const bool named = options.input.size() > 1 || (options.input[0].find('=') != std::string::npos &&
                                                  !fs::exists(options.input[0]));
  data::DatasetSurvey survey;
  if (named) {
    check_are_files(options.input);
    survey.dataset = data::dataset_of_files(config, options.name, options.input);
  } else {
    config.root = options.input[0];
    if (ends_with(config.root, ".nii.gz") || ends_with(config.root, ".nii")) {
      throw UsageError(concat("--input ", config.root,
                              " is one file: give one for each channel, as in --input ",
                              join(config.channels, "=FILE "), "=FILE"));
    }
    config.layout = "auto";
    survey = data::survey_dataset(config, data::Labels::kOptional);
  }
  for (const auto& problem : survey.ignored) log_warning(problem.message);
  for (const auto& problem : survey.missing) {
    if (problem.case_name.empty()) throw Error(problem.message);
  }
  std::set<std::string> incomplete;
  for (const auto& problem : survey.missing) incomplete.insert(problem.case_name);
  std::erase_if(survey.dataset.cases,
                [&](const data::Case& item) { return incomplete.contains(item.name); });
  if (!options.split.empty()) {
    const auto split = data::read_split(options.split, options.fold);
    const auto chosen = data::split_part(split, options.part);
    if (chosen.empty()) {
      throw Error(concat(options.split.string(), ": part ", options.part, " has no cases"));
    }
    std::erase_if(survey.missing, [&](const data::DatasetProblem& problem) {
      return std::find(chosen.begin(), chosen.end(), problem.case_name) == chosen.end();
    });
    survey.dataset.cases = data::select_cases(survey.dataset.cases, chosen, options.split.string());
  }
  return survey;
}

// Every n-th case, so that shards are alike.
void keep_share(data::DatasetSurvey& survey, const Shard& shard) {
  std::vector<data::Case> own;
  auto& cases = survey.dataset.cases;
  for (auto i = static_cast<std::size_t>(shard.place - 1); i < cases.size();
       i += static_cast<std::size_t>(shard.count)) {
    own.push_back(std::move(cases[i]));
  }
  cases = std::move(own);
  if (shard.place > 1) survey.missing.clear();  // told once
}

// "6GB", "512MiB", "1.5g"; "" is 0.
std::int64_t bytes_of(const std::string& option, const std::string& text) {
  if (text.empty()) return 0;
  const auto bytes = to_bytes(text);
  if (!bytes) throw UsageError(concat(option, " is ", text, ": take a size as 6GB or 512MiB"));
  return *bytes;
}

// What --max-memory says, or else the limit of a small container or job, which the system would
// keep by ending the program without a word. 0: none.
std::int64_t host_limit(const Options& options) {
  if (!options.max_memory.empty()) return bytes_of("--max-memory", options.max_memory);
  constexpr auto kRoomy = std::uint64_t{16} << 30;  // where no limit is worth its cost in speed
  const auto limit = group_memory_limit();
  if (limit >= kRoomy) return 0;
  log_info(concat("this container or job may hold ", format_bytes(limit),
                  ", which is kept as by --max-memory"));
  return static_cast<std::int64_t>(limit);
}

engine::PredictorOptions predictor_options(const Options& options, const Shard& shard,
                                           std::int64_t host_limit) {
  engine::PredictorOptions result;
  result.device = options.device;
  // Several processes on one machine take a GPU each.
  if (shard.count > 1 && (options.device == "auto" || options.device == "cuda")) {
    engine::RankInfo rank;
    rank.local_rank = shard.local_rank;
    result.device = engine::device_of_rank(rank, engine::select_device(options.device)).str();
  }
  result.precision = options.precision;
  result.weights = options.weights;
  result.limits = {host_limit, bytes_of("--max-gpu-memory", options.max_gpu_memory)};
  result.configure = [&options](engine::TrainConfig& config) {
    override_config(config, options.set);
    if (options.no_tta) config.inference.mirror_axes.clear();
    if (options.overlap >= 0) config.inference.overlap = options.overlap;
    engine::check(config);
  };
  return result;
}

std::vector<post::Rule> rules_of(const Options& options, const engine::TrainConfig& config) {
  if (options.postprocess == "none") return {};
  const auto rules = options.postprocess.empty() ? config.postprocess
                                                 : post::read_postprocess(options.postprocess);
  return post::make_rules(rules, config.data.classes, config.data.regions);
}

// What report.json says of the run.
Json about(const Options& options, const engine::Predictor& predictor,
           const std::vector<post::Rule>& rules) {
  Json names = Json::array();
  for (const auto& rule : rules) names.push_back(rule.name);
  const auto& inference = predictor.config().inference;
  return {{"program", concat("segmamba-infer ", version(), " ", commit())},
          {"command", options.command_line},
          {"device", predictor.device()},
          {"precision", predictor.precision()},
          {"window", predictor.config().patch_size()},
          {"overlap", inference.overlap},
          {"mirror_axes", inference.mirror_axes},
          {"average", inference.average},
          {"postprocess", names}};
}

void infer(const Options& options) {
  if (options.overwrite && options.skip_existing) {
    throw UsageError("--overwrite replaces and --skip-existing keeps: take one of them");
  }
  if (options.threads < 0) throw UsageError("--threads must not be negative");
  if (!std::isfinite(options.overlap) || options.overlap >= 0.95) {
    throw UsageError("--overlap must be a number below 0.95");
  }
  const auto shard = shard_of(options.shard);
  const auto limit = host_limit(options);
  if (limit == 0) keep_freed_memory();
  engine::set_compute_threads(options.threads);
  engine::set_tf32(options.precision == "tf32");
  engine::tune_convolutions(options.tune);
  const auto predictor =
      engine::Predictor::load({options.checkpoints.begin(), options.checkpoints.end()},
                              predictor_options(options, shard, limit));
  const auto& config = predictor.config();
  auto survey = find_cases(options, config.data);
  keep_share(survey, shard);

  engine::InferenceRunOptions run;
  run.folder = options.output;
  run.existing = options.overwrite       ? engine::Existing::kOverwrite
                 : options.skip_existing ? engine::Existing::kSkip
                                         : engine::Existing::kRefuse;
  run.probabilities = options.probabilities;
  run.uncertainty = options.uncertainty;
  run.region_masks = options.regions;
  run.pictures = options.pictures;
  run.page = !options.no_report;
  run.rules = rules_of(options, config);
  run.resample_to = options.resample_to;
  // A limit is kept by one case at a time.
  run.overlap_files = limit == 0;
  run.weights = engine::weights_record(options.checkpoints, options.weights);
  run.about = about(options, predictor, run.rules);
  if (shard.count > 1) run.part = concat(shard.place, "-of-", shard.count);

  apps::stop_on({SIGINT, SIGTERM});  // after the files that are being written
  const auto total = std::ssize(survey.dataset.cases);
  log_info(concat("segmenting ", total, total == 1 ? " case on " : " cases on ", predictor.device(),
                  " in ", predictor.precision()));
  Progress bar("segment", total);
  std::int64_t reached = 0;
  const auto summary = engine::run_inference(
      predictor, survey, run,
      {.on_share =
           [&](const std::string& name, double share) {
             bar.update(reached, concat(name, " ", std::llround(100 * share), " %"));
           },
       .on_case =
           [&](const engine::CaseOutcome& outcome) {
             if (outcome.state == engine::CaseState::kFailed) {
               const bool is_named = outcome.error.find(outcome.name) != std::string::npos;
               log_error(is_named ? outcome.error : concat(outcome.name, ": ", outcome.error));
             }
             for (const auto& note : outcome.notes) log_warning(outcome.name + ": " + note);
             bar.update(reached = std::min(reached + 1, total), outcome.name);
           },
       .cancelled = [] { return apps::stop_requested().load(); }});
  bar.finish();

  std::string text = concat(summary.done, " segmented");
  if (summary.kept > 0) text += concat(", ", summary.kept, " kept");
  if (summary.failed > 0) text += concat(", ", summary.failed, " failed");
  log_info(concat(text, "; see ", summary.report.string()));
  if (summary.interrupted) {
    apps::CommandLine::set_exit_code(apps::stopped_exit_code());
  } else if (summary.failed > 0) {
    apps::CommandLine::set_exit_code(3);
  }
}

}  // namespace

int main(int argc, char** argv) {
  using segmamba::apps::Need;
  Options options;
  options.command_line.assign(argv, argv + argc);
  segmamba::apps::CommandLine line(
      "segmamba-infer", "Segments cases with trained models, in the grid of their input.",
      "Examples:\n"
      "  segmamba-infer --checkpoint runs/demo/checkpoints/best.pt --input cases --output labels\n"
      "  segmamba-infer -m best.pt -i t1n=a.nii.gz t1c=b.nii.gz t2w=c.nii.gz t2f=dicom/flair "
      "-o out\n"
      "  segmamba-infer -m fold0.pt fold1.pt fold2.pt -i cases -o out --probabilities "
      "--uncertainty\n"
      "  segmamba-infer -m best.pt -i cases --split runs/demo/split.yaml --part test -o out\n"
      "OUTPUT holds CASE.nii.gz (label i is the i-th of the model's data.classes: of BraTS 1 "
      "necrosis,\n2 oedema, 3 enhancing tumour), report.html to look at, report.json, volumes.csv, "
      "and what was\nasked for in folders beside; DICOM input also gives dicom/CASE.dcm. Exit code "
      "3: some cases\nfailed, the others are done.");
  line.option("--checkpoint,-m", options.checkpoints,
              "checkpoints/best.pt or last.pt of a run; several are averaged", Need::kRequired);
  line.option("--input,-i", options.input,
              "Cases (or one): BraTS folders, nnU-Net (also bare NAME_0000.nii.gz), Decathlon, "
              "DICOM, a CSV file; or CHANNEL=FILE for each channel of one case",
              Need::kRequired);
  line.option("--output,-o", options.output, "Folder for CASE.nii.gz and reports", Need::kRequired);
  line.option("--name", options.name, "Of the case given by CHANNEL=FILE");
  line.option("--split", options.split, "Segment only the cases of one part of this split file");
  line.option("--part", options.part, "With --split: train, validation or test");
  line.option("--fold", options.fold, "With a split of folds: the fold that validates");
  line.option("--resample-to", options.resample_to,
              "Bring all channels to the grid of this one, where they differ");
  line.flag("--probabilities", options.probabilities, "Write probabilities/CASE.nii.gz (4-D)");
  line.flag("--uncertainty", options.uncertainty,
            "Write entropy/ and disagreement/ (of models and mirrored passes)");
  line.flag("--regions", options.regions, "Write a mask a region: regions/WT/CASE.nii.gz");
  line.flag("--pictures", options.pictures, "Write pictures/CASE.png: three planes with outlines");
  line.flag("--no-report", options.no_report, "No report.html");
  line.option("--postprocess", options.postprocess,
              "Rules of segmamba-eval --tune-postprocess, instead of the model's; none: no rules");
  line.option("--weights", options.weights,
              "Of a checkpoint: average (where there is one), trained, or both");
  line.option("--precision", options.precision,
              "fp32, tf32, bf16, fp16, or auto: bf16 where that is faster");
  line.flag("--tune", options.tune,
            "On a GPU: takes seconds to choose the fastest convolutions; for many cases");
  line.option("--device", options.device, "auto, cpu, cuda or cuda:N");
  line.option("--threads", options.threads, "Threads that compute; 0: one a processor");
  line.option("--max-memory", options.max_memory, "Keep below this much memory, as 6GB");
  line.option("--max-gpu-memory", options.max_gpu_memory, "The same for the GPU");
  line.option("--overlap", options.overlap, "Overlap of windows; below 0: the config's");
  line.flag("--no-tta", options.no_tta, "No mirroring: up to eight times faster, a little worse");
  line.option("--set", options.set,
              "Overrides of the model's config, as in inference.sw_batch_size=4");
  line.option("--shard", options.shard,
              "Segment part i of n, as 2/4; torchrun and srun do without");
  line.flag("--overwrite", options.overwrite, "Replace files in the output folder");
  line.flag("--skip-existing", options.skip_existing,
            "Leave out cases that have a label map, of the same weights");
  return line.run(argc, argv, [&] { infer(options); });
}
