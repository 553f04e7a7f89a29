// segmamba-data: makes, checks, splits, prepares and shows data sets.

#include <algorithm>
#include <array>
#include <cstdio>
#include <map>
#include <memory>
#include <optional>

#include "app_main.h"
#include "segmamba/core/config.h"
#include "segmamba/core/error.h"
#include "segmamba/core/files.h"
#include "segmamba/core/json.h"
#include "segmamba/core/log.h"
#include "segmamba/core/progress.h"
#include "segmamba/core/text.h"
#include "segmamba/data/case_store.h"
#include "segmamba/data/check.h"
#include "segmamba/data/data_config.h"
#include "segmamba/data/phantom.h"
#include "segmamba/data/preview.h"
#include "segmamba/data/split.h"
#include "segmamba/data/threshold.h"

namespace {

namespace fs = std::filesystem;
using namespace segmamba;

struct PhantomOptions {
  fs::path output;
  std::string profile, size;
  std::vector<std::string> conventions;
  data::PhantomConfig config;
  bool overwrite = false;
};

// The sections of a training config that segmamba-data needs.
struct ConfigOptions {
  fs::path config;
  std::vector<std::string> set;
};

struct CheckOptions {
  ConfigOptions source;
  fs::path folder, json, html;
  std::vector<std::string> channels, classes, label_map;
  fs::path split;
  std::string layout;
  std::int64_t threads = 0, fold = -1;
};

struct SplitOptions {
  fs::path folder, output;
  std::uint64_t seed = 0;
  std::int64_t folds = 0;
  double test_share = 0.2;
  bool overwrite = false;
};

struct PrepareOptions {
  ConfigOptions source;
  fs::path output;
  bool overwrite = false;
};

struct PreviewOptions {
  ConfigOptions source;
  fs::path output;
  std::int64_t seed = -1;
  data::PreviewOptions preview;
  bool overwrite = false;
};

struct ThresholdOptions {
  fs::path folder, split;
  std::string part = "test";
  std::vector<std::string> channels = data::kBratsChannels;
};

// "64" is 64x64x64; "155x240x240" is DxHxW.
std::array<std::int64_t, 3> parse_size(const std::string& text) {
  auto parts = split(text, 'x');
  if (parts.size() == 1) parts.assign(3, parts.front());
  std::array<std::int64_t, 3> size{};
  bool valid = parts.size() == 3;
  for (std::size_t i = 0; valid && i < 3; ++i) {
    valid = !parts[i].empty() && parts[i].size() <= 5 &&
            parts[i].find_first_not_of("0123456789") == std::string::npos;
    if (valid) size[i] = std::stoll(parts[i]);
  }
  if (!valid) throw UsageError(concat("--size must be N or DxHxW, such as 64, not ", text));
  return size;
}

void make_phantoms(PhantomOptions options) {
  if (!options.profile.empty()) {
    const auto profile = data::phantom_profile(options.profile);
    options.config.size = profile.size;
    options.config.conventions = profile.conventions;
  }
  if (!options.size.empty()) options.config.size = parse_size(options.size);
  if (!options.conventions.empty()) {
    // Commas and spaces alike separate names.
    options.config.conventions =
        data::parse_conventions(split(join(options.conventions, ","), ','));
  }
  if (options.config.cases < 1) throw UsageError("--cases must be at least 1");
  if (fs::exists(options.output) && !options.overwrite) {
    const auto existing = data::find_case_folders(options.output);
    if (!existing.empty()) {
      throw Error(concat(options.output.string(), " already holds ", existing.size(),
                         " case(s), such as ", existing.front().filename().string(),
                         "; give another folder, or --overwrite"));
    }
  }
  Progress progress("phantom", options.config.cases);
  data::write_phantoms(options.output, options.config,
                       [&](std::int64_t done) { progress.update(done); });
  progress.finish();
  log_info(concat(options.config.cases, " cases of ", join(options.config.size, "x"), " voxels in ",
                  options.output.string()));
}

ConfigDocument read_document(const ConfigOptions& options) {
  auto document = ConfigDocument::from_file(options.config);
  for (const auto& assignment : options.set) document.override_value(assignment);
  return document;
}

// A section of the config, or its defaults where the config has none.
template <class Section>
Section read_section(const ConfigDocument& document, const std::string& name) {
  Section section;
  if (document.has(name)) document.section(name).read(section);
  return section;
}

// Section `data` of the config, with what the command line says in place of it.
data::DataConfig dataset_config(const CheckOptions& options) {
  data::DataConfig config;
  if (!options.source.config.empty()) {
    config = read_section<data::DataConfig>(read_document(options.source), "data");
  } else if (!options.source.set.empty()) {
    throw UsageError("--set changes a config; give one with --config");
  }
  if (!options.folder.empty()) config.root = options.folder.string();
  if (!options.layout.empty()) config.layout = options.layout;
  if (!options.channels.empty()) config.channels = options.channels;
  if (!options.classes.empty()) config.classes = options.classes;
  if (!options.label_map.empty()) config.label_map = options.label_map;
  if (config.root.empty()) {
    throw UsageError("a data set is needed: a folder, or --config with data.root");
  }
  const auto& layouts = data::kLayouts;
  if (std::find(layouts.begin(), layouts.end(), config.layout) == layouts.end()) {
    throw UsageError(
        concat("--layout must be one of ", join(layouts, ", "), ", not ", config.layout));
  }
  return config;
}

// The first of each kind, unless --verbose asks for all: a thousand cases may share a defect.
void print_findings(const std::vector<data::Finding>& findings) {
  constexpr std::int64_t kShown = 20;
  const bool all = log_level() == LogLevel::kDebug;
  std::map<std::string, std::int64_t> counts;
  for (const auto& finding : findings) {
    if (++counts[finding.kind] > kShown && !all) continue;
    std::printf("%-7s  %-17s  %s%s%s\n", to_string(finding.severity).c_str(), finding.kind.c_str(),
                finding.case_name.c_str(), finding.case_name.empty() ? "" : ": ",
                finding.message.c_str());
  }
  for (const auto& [kind, count] : counts) {
    if (count <= kShown || all) continue;
    std::printf("...      %-17s  %lld more (--verbose, --json or --html for all)\n", kind.c_str(),
                static_cast<long long>(count - kShown));
  }
}

// What is there by the name of a report is replaced, which must not be an input.
void refuse_input(const std::string& option, const fs::path& output, const std::string& extension,
                  const std::vector<fs::path>& inputs) {
  if (output.empty()) return;
  if (to_lower(output.extension().string()) != extension) {
    throw UsageError(concat(option, " must be a file NAME", extension, ", not ", output.string()));
  }
  const bool is_input = output.filename() == "dataset.json" ||  // would be read the next time
                        std::any_of(inputs.begin(), inputs.end(), [&](const fs::path& input) {
                          std::error_code ignored;
                          return fs::equivalent(output, input, ignored);
                        });
  if (!is_input) return;
  throw UsageError(
      concat(option, " ", output.string(), " would replace an input; give another name"));
}

void check(const CheckOptions& options) {
  if (options.threads < 0 || options.threads > 1024) {
    throw UsageError("--threads must lie from 0 (all processors) to 1024");
  }
  const data::DataConfig config = dataset_config(options);
  // What reading has to say stands in the findings.
  if (log_level() == LogLevel::kInfo) set_log_level(LogLevel::kError);
  std::optional<data::Split> split;
  const fs::path split_file = options.split.empty() ? fs::path(config.split) : options.split;
  const auto fold = options.split.empty() ? config.fold : options.fold;
  const std::vector<fs::path> inputs = {options.source.config, config.root, split_file};
  refuse_input("--json", options.json, ".json", inputs);
  refuse_input("--html", options.html, ".html", inputs);
  if (!split_file.empty()) split = data::read_split(split_file, fold);
  std::optional<Progress> progress;
  const auto report =
      data::check_dataset(config, {.threads = static_cast<int>(options.threads),
                                   .split = split ? &*split : nullptr,
                                   .progress = [&](std::int64_t done, std::int64_t total) {
                                     if (!progress) progress.emplace("check", total);
                                     progress->update(done);
                                   }});
  progress.reset();
  print_findings(report.findings);
  std::printf("%lld cases of %lld patients: %lld errors, %lld warnings, %lld notices; %s\n",
              static_cast<long long>(report.cases), static_cast<long long>(report.patients),
              static_cast<long long>(report.count(data::Severity::kError)),
              static_cast<long long>(report.count(data::Severity::kWarning)),
              static_cast<long long>(report.count(data::Severity::kNotice)),
              report.can_train() ? "ready to train" : "training would not start");
  if (!options.json.empty()) write_json(options.json, report.to_json());
  if (!options.html.empty()) write_file_atomically(options.html, report.to_html());
  if (!report.can_train()) apps::CommandLine::set_exit_code(1);
}

void split_cases(const SplitOptions& options) {
  if (options.folds != 0 && (options.folds < 2 || options.folds > data::kMostFolds)) {
    throw UsageError(concat("--folds must lie from 2 to ", data::kMostFolds, ", not ",
                            options.folds, " (0: train, validation and test)"));
  }
  if (!(options.test_share >= 0 && options.test_share < 1)) {  // which holds for NaN, too
    throw UsageError(concat("--test-share must lie from 0 to below 1, not ", options.test_share));
  }
  if (fs::exists(options.output) && !options.overwrite) {
    throw Error(concat(options.output.string(), " exists; give another file, or --overwrite"));
  }
  // Names are enough: which files a case has is for `check` to say.
  const auto survey = data::survey_dataset(
      {.root = options.folder.string(), .channels = {}, .classes = {}}, data::Labels::kOptional);
  const auto& cases = survey.dataset.cases;
  if (cases.empty()) throw Error(survey.missing.front().message);
  for (const auto& [name, message] : survey.missing) {
    // A split without a case that is there would leave it out for good.
    const auto is_it = [&name = name](const data::Case& item) { return item.name == name; };
    if (std::none_of(cases.begin(), cases.end(), is_it)) throw Error(message);
  }
  if (options.folds > 0) {
    const auto result = data::make_folds(cases, options.folds, options.test_share, options.seed);
    data::write_folds(options.output, result, options.seed);
    std::vector<std::size_t> sizes;
    for (const auto& fold : result.folds) sizes.push_back(fold.size());
    log_info(concat(options.folds, " folds of ", join(sizes, ", "), " cases, ", result.test.size(),
                    " to test in ", options.output.string()));
    return;
  }
  const auto result = data::make_split(cases, options.seed);
  data::write_split(options.output, result, concat("70/10/20 by patient, seed ", options.seed));
  log_info(concat(result.train.size(), " cases to train, ", result.validation.size(),
                  " to validate, ", result.test.size(), " to test in ", options.output.string()));
}

struct Source {
  data::DataConfig data;
  data::PreprocessConfig preprocess;
  data::SamplingConfig sampling;
  data::AugmentConfig augment;
  std::int64_t seed = 0;  // training.seed
};

// The one key of section `training` that decides the patches.
struct TrainingSeed {
  std::int64_t seed = 0;
  void visit(ConfigVisitor& visitor) {
    visitor.value({.name = "seed", .help = "Of the run", .min = 0}, seed);
  }
};

Source read_source(const ConfigOptions& options) {
  const auto document = read_document(options);
  Source source{read_section<data::DataConfig>(document, "data"),
                read_section<data::PreprocessConfig>(document, "preprocess"),
                read_section<data::SamplingConfig>(document, "sampling"),
                read_section<data::AugmentConfig>(document, "augment")};
  if (document.has("training")) {
    TrainingSeed training;
    document.section("training").read_part(training);
    source.seed = training.seed;
  }
  check(source.preprocess, source.data.channels.size());
  return source;
}

void prepare(const PrepareOptions& options) {
  auto source = read_source(options.source);
  source.data.cache.clear();  // it is what is made here
  const auto dataset = data::find_dataset(source.data, data::Labels::kOptional);
  if (options.overwrite) data::remove_cache(options.output);
  make_folders(options.output);
  const auto most = data::largest_cache_bytes(dataset, source.preprocess);
  const auto ready = data::cache_bytes(options.output);
  const auto missing = most - std::min(most, ready);
  const auto free = fs::space(options.output).available;
  log_info(concat(dataset.cases.size(), " cases: at most ", format_bytes(most), " in ",
                  options.output.string(),
                  source.preprocess.crop_to_nonzero ? " (less by what cropping takes away)" : "",
                  ", where ", format_bytes(free), " are free"));
  if (missing > free && !source.preprocess.crop_to_nonzero) {
    throw Error("the cache does not fit: make room, or give another --output");
  }
  if (missing > free) log_warning("the cache may not fit, depending on what cropping takes away");
  Progress progress("prepare", static_cast<std::int64_t>(dataset.cases.size()));
  const auto report =
      data::build_cache(dataset, source.preprocess, options.output,
                        [&](std::int64_t done, std::int64_t) { progress.update(done); });
  progress.finish();
  for (const auto& [name, message] : report.failed) log_error(message);
  log_info(concat(report.made, " cases prepared, ", report.kept, " were ready, ",
                  report.failed.size(), " failed; ", format_bytes(report.bytes), " in ",
                  options.output.string()));
  if (!report.failed.empty()) apps::CommandLine::set_exit_code(1);
}

void preview(const PreviewOptions& options) {
  // A run has no more patches, and a page of more could not be looked at.
  constexpr std::int64_t kMostFirst = 1'000'000'000'000'000, kMostCount = 1000;
  if (options.preview.first_sample < 0 || options.preview.first_sample > kMostFirst) {
    throw UsageError(concat("--first must lie from 0 to ", kMostFirst));
  }
  if (options.preview.count < 1 || options.preview.count > kMostCount) {
    throw UsageError(concat("--count must lie from 1 to ", kMostCount));
  }
  for (const char* name : {"preview.html", "preview.png"}) {
    if (fs::exists(options.output / name) && !options.overwrite) {
      throw Error(
          concat((options.output / name).string(), " exists; give another folder, or --overwrite"));
    }
  }
  const auto source = read_source(options.source);
  auto dataset = data::find_dataset(source.data, data::Labels::kOptional);
  const auto found = data::find_split(source.data, dataset.cases);
  dataset.cases = data::select_cases(dataset.cases, found.split.train, found.origin);
  const auto cases = data::open_cases(dataset, source.data, source.preprocess);
  const auto& size = source.data.patch_size;
  data::PatchSource patches(
      *cases, {.size = {size[0], size[1], size[2]},
               .seed = static_cast<std::uint64_t>(options.seed >= 0 ? options.seed : source.seed),
               .sampling = source.sampling,
               .augment = source.augment,
               .max_bad_cases = source.data.max_bad_cases});
  data::write_preview(options.output, patches, dataset, options.preview);
  for (const auto& bad : patches.take_bad_cases()) log_warning("left out: " + bad.message);
  log_info(
      concat(options.preview.count, " patches in ", (options.output / "preview.html").string()));
}

void threshold(const ThresholdOptions& options) {
  auto dataset = data::open_dataset({.root = options.folder.string(), .channels = options.channels},
                                    data::Labels::kRequired);
  if (!options.split.empty()) {
    const auto split = data::read_split(options.split);
    dataset.cases = data::select_cases(dataset.cases, data::split_part(split, options.part),
                                       options.split.string());
  }
  std::vector<data::PreparedCase> prepared;
  prepared.reserve(dataset.cases.size());
  for (const auto& item : dataset.cases) {
    prepared.push_back(data::prepare_case(data::read_case(dataset, item), {}));
  }
  const auto results = data::best_threshold_dice(prepared);
  for (std::size_t channel = 0; channel < results.size(); ++channel) {
    const auto& result = results[channel];
    std::printf("%-4s  WT Dice %.3f  (whole tumour where z-score %s %.2f)\n",
                options.channels[channel].c_str(), result.dice, result.above ? ">=" : "<",
                result.threshold);
  }
}

}  // namespace

int main(int argc, char** argv) {
  apps::CommandLine program("segmamba-data",
                            "Makes, checks, splits and prepares data sets for SegMamba.",
                            "Examples:\n"
                            "  segmamba-data phantom --output data --cases 12 --size 64 --seed 1\n"
                            "  segmamba-data phantom --output data --profile brats2023\n"
                            "  segmamba-data check data\n"
                            "  segmamba-data check data --html check.html --json check.json\n"
                            "  segmamba-data check Task03_Liver --channels CT "
                            "--classes background liver tumour\n"
                            "  segmamba-data check --config train.yaml --set data.root=data\n"
                            "  segmamba-data split data --seed 1 --output split.yaml\n"
                            "  segmamba-data split data --folds 5 --output folds.yaml\n"
                            "  segmamba-data prepare --config configs/paper.yaml --set "
                            "data.root=data --output cache\n"
                            "  segmamba-data preview --config configs/paper.yaml --set "
                            "data.root=data --output preview\n"
                            "  segmamba-data threshold data --split split.yaml");

  PhantomOptions phantom;
  auto& phantom_command =
      program.command("phantom", "Write synthetic BraTS2023-like cases with a glioma",
                      [&] { make_phantoms(phantom); });
  phantom_command.option("--output,-o", phantom.output, "Folder for the cases",
                         apps::Need::kRequired);
  phantom_command.option("--cases", phantom.config.cases, "How many");
  phantom_command.option("--profile", phantom.profile,
                         "brats2023: 155x240x240, conventions int16 extension");
  phantom_command.option("--size", phantom.size,
                         "Voxels: N for a cube, or DxHxW; default 64, or the profile's");
  phantom_command.option(
      "--conventions", phantom.conventions,
      "How files of the field are stored, instead of the profile's; any of: int16; dtypes "
      "(varied integers and floats, some scaled); extension (of the header); cosines (not quite "
      "orthonormal); orientation (varied); brats2020 (names such as _t1ce, label 4); or none");
  phantom_command.option("--seed", phantom.config.seed, "The same seed gives the same cases");
  phantom_command.flag("--overwrite", phantom.overwrite, "Replace cases that exist");

  CheckOptions checking;
  auto& check_command = program.command(
      "check", "List every defect of a data set; exit 1 if training would not start",
      [&] { check(checking); });
  check_command.option("folder", checking.folder,
                       "Data set (BraTS, nnU-Net, Decathlon, DICOM), a CSV file, or one case");
  check_command.option("--config,-c", checking.source.config,
                       "Take section `data` of this YAML file");
  check_command.option("--set,-s", checking.source.set, "Change the config: data.root=FOLDER");
  check_command.option("--layout", checking.layout, join(data::kLayouts, ", "));
  check_command.option("--channels", checking.channels,
                       "Channels that a case must have (default t1n t1c t2w t2f)");
  check_command.option("--classes", checking.classes,
                       "Classes (default background necrosis oedema enhancing)");
  check_command.option("--label-map", checking.label_map, "What a label is: 4=enhancing");
  check_command.option("--split", checking.split,
                       "Look for patients and images in two parts of this split, too");
  check_command.option("--fold", checking.fold, "With a split of folds: the fold that validates");
  check_command.option("--json", checking.json,
                       "Write findings and fingerprint to this .json file, too");
  check_command.option("--html", checking.html, "Write a page of them to this .html file");
  check_command.option("--threads", checking.threads, "Cases at a time; 0: one a processor");

  SplitOptions splitting;
  auto& split_command = program.command(
      "split", "Divide a data set 70/10/20 into train, validation and test, by patient",
      [&] { split_cases(splitting); });
  split_command.option("folder", splitting.folder, "Data set", apps::Need::kRequired);
  split_command.option("--output,-o", splitting.output, "YAML file to write",
                       apps::Need::kRequired);
  split_command.option("--seed", splitting.seed, "The same seed gives the same split");
  split_command.option("--folds", splitting.folds,
                       "Folds for cross-validation, instead of the three parts");
  split_command.option("--test-share", splitting.test_share,
                       "With --folds: share of the patients that is in no fold");
  split_command.flag("--overwrite", splitting.overwrite, "Replace the file if it exists");

  const auto config_options = [](apps::CommandLine& command, ConfigOptions& options) {
    command.option("--config,-c", options.config,
                   "YAML config of a training (see configs/): sections data, preprocess, sampling, "
                   "augment",
                   apps::Need::kRequired);
    command.option("--set,-s", options.set, "Overrides of config keys, as in data.root=FOLDER");
  };

  PrepareOptions preparing;
  auto& prepare_command = program.command(
      "prepare", "Crop, resample and normalise every case once, into a cache for training",
      [&] { prepare(preparing); });
  config_options(prepare_command, preparing.source);
  prepare_command.option("--output,-o", preparing.output,
                         "Folder of the cache; one that was begun is finished",
                         apps::Need::kRequired);
  prepare_command.flag("--overwrite", preparing.overwrite, "Remove a cache in the folder first");

  PreviewOptions previewing;
  auto& preview_command =
      program.command("preview", "Pictures of training patches as a config draws and augments them",
                      [&] { preview(previewing); });
  config_options(preview_command, previewing.source);
  preview_command.option("--output,-o", previewing.output,
                         "Folder for preview.html and preview.png", apps::Need::kRequired);
  preview_command.option("--count", previewing.preview.count, "How many patches");
  preview_command.option("--first", previewing.preview.first_sample,
                         "Number of the first patch of the run");
  preview_command.option("--seed", previewing.seed, "Instead of training.seed");
  preview_command.flag("--overwrite", previewing.overwrite, "Replace an earlier preview");

  ThresholdOptions thresholding;
  auto& threshold_command = program.command(
      "threshold",
      "How far one threshold on one modality gets: the baseline that a model has to beat",
      [&] { threshold(thresholding); });
  threshold_command.option("folder", thresholding.folder, "Data set", apps::Need::kRequired);
  threshold_command.option("--split", thresholding.split, "Take one part of this split file");
  threshold_command.option("--part", thresholding.part, "With --split: train, validation or test");
  threshold_command.option("--channels", thresholding.channels, "Modalities to try");

  return program.run(argc, argv);
}
