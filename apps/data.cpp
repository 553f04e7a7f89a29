// segmamba-data: makes, checks and splits data sets.

#include <cstdio>
#include <memory>
#include <optional>

#include "app_main.h"
#include "segmamba/core/error.h"
#include "segmamba/core/files.h"
#include "segmamba/core/json.h"
#include "segmamba/core/log.h"
#include "segmamba/core/progress.h"
#include "segmamba/core/text.h"
#include "segmamba/data/cases.h"
#include "segmamba/data/check.h"
#include "segmamba/data/phantom.h"
#include "segmamba/data/split.h"
#include "segmamba/data/threshold.h"

namespace {

namespace fs = std::filesystem;
using namespace segmamba;

struct PhantomOptions {
  fs::path output;
  std::string size = "64";
  data::PhantomConfig config;
  bool overwrite = false;
};

struct CheckOptions {
  fs::path folder, json;
  std::vector<std::string> channels = data::kBratsChannels;
};

struct SplitOptions {
  fs::path folder, output;
  std::uint64_t seed = 0;
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
  options.config.size = parse_size(options.size);
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

void check(const CheckOptions& options) {
  std::optional<Progress> progress;
  const auto report = data::check_cases(options.folder, options.channels,
                                        [&](std::int64_t done, std::int64_t total) {
                                          if (!progress) progress.emplace("check", total);
                                          progress->update(done);
                                        });
  progress.reset();
  for (const auto& finding : report.findings) {
    std::printf("%-7s  %s%s%s\n", to_string(finding.severity).c_str(), finding.case_name.c_str(),
                finding.case_name.empty() ? "" : ": ", finding.message.c_str());
  }
  std::printf("%lld cases of %lld patients: %lld errors, %lld warnings, %lld notices; %s\n",
              static_cast<long long>(report.cases), static_cast<long long>(report.patients),
              static_cast<long long>(report.count(data::Severity::kError)),
              static_cast<long long>(report.count(data::Severity::kWarning)),
              static_cast<long long>(report.count(data::Severity::kNotice)),
              report.can_train() ? "ready to train" : "training would not start");
  if (!options.json.empty()) write_json(options.json, report.to_json());
  if (!report.can_train()) apps::CommandLine::set_exit_code(1);
}

void split_cases(const SplitOptions& options) {
  if (fs::exists(options.output) && !options.overwrite) {
    throw Error(concat(options.output.string(), " exists; give another file, or --overwrite"));
  }
  // Names are enough: which files a case has is for `check` to say.
  const auto cases = data::find_cases(options.folder, {}, /*need_labels=*/false);
  const auto result = data::make_split(cases, options.seed);
  data::write_split(options.output, result, options.seed);
  log_info(concat(result.train.size(), " cases to train, ", result.validation.size(),
                  " to validate, ", result.test.size(), " to test in ", options.output.string()));
}

void threshold(const ThresholdOptions& options) {
  auto cases = data::find_cases(options.folder, options.channels, /*need_labels=*/true);
  if (!options.split.empty()) {
    const auto split = data::read_split(options.split);
    cases =
        data::select_cases(cases, data::split_part(split, options.part), options.split.string());
  }
  std::vector<data::CaseData> loaded;
  for (const auto& item : cases) loaded.push_back(data::load_case(item));
  const auto results = data::best_threshold_dice(loaded);
  for (std::size_t channel = 0; channel < results.size(); ++channel) {
    const auto& result = results[channel];
    std::printf("%-4s  WT Dice %.3f  (whole tumour where z-score %s %.2f)\n",
                options.channels[channel].c_str(), result.dice, result.above ? ">=" : "<",
                result.threshold);
  }
}

}  // namespace

int main(int argc, char** argv) {
  apps::CommandLine program("segmamba-data", "Makes, checks and splits data sets for SegMamba",
                            "Examples:\n"
                            "  segmamba-data phantom --output data --cases 12 --size 64 --seed 1\n"
                            "  segmamba-data check data\n"
                            "  segmamba-data check data --json findings.json\n"
                            "  segmamba-data split data --seed 1 --output split.yaml");

  PhantomOptions phantom;
  auto& phantom_command =
      program.command("phantom", "Write synthetic BraTS2023-like cases with a glioma",
                      [&] { make_phantoms(phantom); });
  phantom_command.option("--output,-o", phantom.output, "Folder for the cases",
                         apps::Need::kRequired);
  phantom_command.option("--cases", phantom.config.cases, "How many");
  phantom_command.option("--size", phantom.size, "Voxels: N for a cube, or DxHxW");
  phantom_command.option("--seed", phantom.config.seed, "The same seed gives the same cases");
  phantom_command.flag("--overwrite", phantom.overwrite, "Replace cases that exist");

  CheckOptions checking;
  auto& check_command = program.command(
      "check", "List every defect of a data set; exit 1 if training would not start",
      [&] { check(checking); });
  check_command.option("folder", checking.folder, "Data set, or one case", apps::Need::kRequired);
  check_command.option("--channels", checking.channels, "Modalities that a case must have");
  check_command.option("--json", checking.json, "Write the findings to this file, too");

  SplitOptions splitting;
  auto& split_command = program.command(
      "split", "Divide a data set 70/10/20 into train, validation and test, by patient",
      [&] { split_cases(splitting); });
  split_command.option("folder", splitting.folder, "Data set", apps::Need::kRequired);
  split_command.option("--output,-o", splitting.output, "YAML file to write",
                       apps::Need::kRequired);
  split_command.option("--seed", splitting.seed, "The same seed gives the same split");
  split_command.flag("--overwrite", splitting.overwrite, "Replace the file if it exists");

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
