// segmamba-train: trains a model as a config says.

#include <algorithm>
#include <csignal>
#include <iostream>
#include <optional>

#include "app_main.h"
#include "segmamba/core/error.h"
#include "segmamba/core/file_lock.h"
#include "segmamba/core/log.h"
#include "segmamba/core/memory.h"
#include "segmamba/core/text.h"
#include "segmamba/core/version.h"
#include "segmamba/engine/compare_runs.h"
#include "segmamba/engine/device.h"
#include "segmamba/engine/dry_run.h"
#include "segmamba/engine/environment.h"
#include "segmamba/engine/launch.h"
#include "segmamba/engine/run_observers.h"
#include "segmamba/engine/trainer.h"
#include "stop_signal.h"

namespace {

using namespace segmamba;
namespace fs = std::filesystem;

struct Options {
  std::vector<std::string> command_line;
  fs::path config, output = "run";
  std::vector<std::string> set, compare;
  bool resume = false, overwrite = false, allow_config_change = false;
  bool print_config = false, help_config = false, dry_run = false;
  std::string device = "auto";
  std::int64_t threads = -1;
  std::int64_t gpus = 1;
};

engine::StartMode start_mode(const Options& options) {
  if (options.resume && options.overwrite) {
    throw UsageError("--resume goes on with a run and --overwrite removes it: take one of them");
  }
  if (options.resume) return engine::StartMode::kResume;
  return options.overwrite ? engine::StartMode::kOverwrite : engine::StartMode::kNew;
}

engine::TrainConfig read_config(const Options& options) {
  fs::path path = options.config;
  if (path.empty() && options.resume) {
    path = engine::RunFolder{options.output}.config();
    if (!fs::exists(path)) {
      throw Error(concat(options.output.string(),
                         " holds no run to go on with; give --config to start one there"));
    }
  }
  if (path.empty()) {
    throw UsageError("--config is missing (only --resume does without); see --help");
  }
  // A run again, from its folder alone: the same config and the same split.
  const bool is_run = fs::is_directory(path);
  const engine::RunFolder earlier{path};
  if (is_run) path = earlier.config();
  auto config = load_config<engine::TrainConfig>(path, options.set);
  if (is_run) {
    config.data.split = fs::absolute(earlier.split()).string();
    config.data.fold = -1;
  }
  if (options.threads >= 0) config.training.threads = options.threads;
  engine::complete(config);
  return config;
}

// The log tells a person what other files and the terminal hold: a run does without if it must.
void open_log(const engine::RunFolder& run) {
  try {
    open_log_file(run.log());
  } catch (const Error& error) {
    log_warning(concat("no log file: ", error.what()));
  }
}

void train(const Options& options) {
  if (!options.compare.empty()) {
    std::cout << engine::compare_runs({options.compare.begin(), options.compare.end()});
    return;
  }
  if (options.help_config) {
    auto document = ConfigDocument::from_text("", "--help-config");
    for (const auto& assignment : options.set) document.override_value(assignment);
    engine::TrainConfig config;
    document.read(config);
    std::cout << config_to_yaml(config, /*with_help=*/true);
    return;
  }
  auto config = read_config(options);
  engine::check(config);
  if (options.print_config) {
    std::cout << config_to_yaml(config, /*with_help=*/true);
    return;
  }
  if (options.dry_run) {
    engine::set_compute_threads(config.training.threads);
    engine::dry_run(config, options.device, /*every_key=*/log_level() == LogLevel::kDebug,
                    std::cout, options.gpus);
    return;
  }
  const auto mode = start_mode(options);
  if (options.gpus != 1 && !engine::is_launched_rank()) {
    apps::CommandLine::set_exit_code(
        engine::launch_ranks(options.gpus, options.device, options.command_line));
    return;
  }
  // A resumed run may be started from another folder.
  for (auto* path : {&config.data.root, &config.data.cache}) {
    if (!path->empty()) *path = fs::absolute(*path).string();
  }

  const auto info = engine::rank_from_environment();
  const auto device = engine::device_of_rank(info, engine::select_device(options.device));
  // Of a step on the CPU, a quarter is memory that comes back from the system page by page.
  if (device.is_cpu()) keep_freed_memory();
  const auto ranks = engine::join_ranks(info, device);
  const bool is_first = ranks->is_first();
  if (!is_first) set_log_level(std::max(log_level(), LogLevel::kWarning));
  const engine::RunFolder run{options.output};
  // What is wrong is found before an earlier run is removed, or a new folder made.
  if (mode != engine::StartMode::kResume || run.all_checkpoints().empty()) {
    engine::check_start(config, device, ranks->size());
  }
  if (mode == engine::StartMode::kOverwrite) {
    run.check_is_no_file_of_it("data.root", config.data.root);
    run.check_is_no_file_of_it("data.split", config.data.split);
    run.check_is_no_file_of_it("data.cache", config.data.cache);
    run.check_is_no_file_of_it("model.init_from", config.model.init_from);
  }
  std::optional<FolderLock> lock;
  if (is_first) {
    lock.emplace(options.output);
    engine::RunFolder::prepare(options.output, mode);
    open_log(run);
    log_debug("segmamba-train " + version() + " in " + fs::absolute(run.path).string());
  }
  ranks->barrier();  // the folder is ready
  engine::set_compute_threads(config.training.threads, info.local_size);
  if (is_first) {
    engine::record_start(
        run.environment(),
        {.command_line = options.command_line, .device = device.str(), .ranks = ranks->size()});
  }
  apps::stop_on({SIGINT, SIGTERM, SIGUSR1});  // the trainer saves first

  engine::Observers observers;
  std::vector<std::unique_ptr<engine::Observer>> owned;
  if (is_first) owned = engine::run_observers(run);
  for (const auto& observer : owned) observers.add(*observer);
  engine::Trainer trainer(config, run, observers, *ranks,
                          {.device = device,
                           .local_ranks = info.local_size,
                           .allow_config_change = options.allow_config_change});
  if (trainer.run(apps::stop_requested()) == engine::RunEnd::kInterrupted) {
    apps::CommandLine::set_exit_code(apps::stopped_exit_code());
  }
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  options.command_line.assign(argv, argv + argc);
  segmamba::apps::CommandLine line(
      "segmamba-train", "Trains a segmentation model as a YAML config says.",
      "Examples:\n"
      "  segmamba-train --config configs/demo.yaml --set data.root=cases --output runs/demo\n"
      "  segmamba-train --config configs/demo.yaml --set data.root=cases --dry-run\n"
      "  segmamba-train --resume --output runs/demo\n"
      "  segmamba-train --config runs/demo --output runs/again\n"
      "  segmamba-train --compare runs/demo runs/again\n"
      "The output folder holds report.html (to look at, newer after each validation), "
      "config.yaml,\n"
      "split.yaml, environment.json, train.log, metrics.csv, events.jsonl, tensorboard/ and "
      "checkpoints/.\n"
      "Ctrl-C, SIGTERM and SIGUSR1 finish the step, save checkpoints/last.pt and end with 130, 143 "
      "and 138;\na second one ends at once.");
  line.option("--config,-c", options.config,
              "YAML config (see configs/), or the folder of a run, to train it again");
  line.option("--set,-s", options.set, "Overrides of config keys, as in training.seed=1");
  line.option("--output,-o", options.output, "Run folder");
  line.flag("--resume", options.resume,
            "Go on with the run in the output folder, or start it where there is none yet");
  line.flag("--allow-config-change", options.allow_config_change,
            "Resume although the config has changed in keys that decide the weights");
  line.flag("--overwrite", options.overwrite, "Remove an earlier run in the output folder first");
  line.flag("--dry-run", options.dry_run,
            "Print data, config (with --verbose every key), memory and time of the run, and end");
  line.flag("--print-config", options.print_config, "Print the complete effective config and end");
  line.flag("--help-config", options.help_config,
            "Print every config key with its default and end");
  line.option("--compare", options.compare, "Tabulate the runs in these folders and end");
  line.option("--device", options.device, "auto, cpu, cuda or cuda:N");
  line.option("--gpus", options.gpus,
              "Train on so many GPUs of this machine (torchrun and srun do without)");
  line.option("--threads", options.threads, "Instead of training.threads; 0: one a processor");
  return line.run(argc, argv, [&] { train(options); });
}
