// segmamba-train: trains a model as a config says.

#include <atomic>
#include <csignal>
#include <iostream>

#include "app_main.h"
#include "segmamba/core/error.h"
#include "segmamba/core/log.h"
#include "segmamba/core/text.h"
#include "segmamba/core/version.h"
#include "segmamba/engine/device.h"
#include "segmamba/engine/observers.h"
#include "segmamba/engine/trainer.h"

namespace {

using namespace segmamba;
namespace fs = std::filesystem;

std::atomic<bool> stop_requested = false;
std::atomic<int> stop_signal = 0;
static_assert(std::atomic<bool>::is_always_lock_free && std::atomic<int>::is_always_lock_free);

// The first signal asks the trainer to save and end; the second one ends the program at once.
void request_stop(int signal) {
  stop_signal = signal;
  stop_requested = true;
  std::signal(signal, SIG_DFL);
}

struct Options {
  fs::path config, output = "run";
  std::vector<std::string> set;
  bool resume = false, overwrite = false, print_config = false, help_config = false;
  std::string device = "auto";
  std::int64_t threads = -1;
};

engine::TrainConfig read_config(const Options& options) {
  fs::path path = options.config;
  if (path.empty() && options.resume) path = engine::RunFolder{options.output}.config();
  if (path.empty()) throw UsageError("--config is missing (only --resume does without)");
  auto config = load_config<engine::TrainConfig>(path, options.set);
  if (options.threads >= 0) config.training.threads = options.threads;
  return config;
}

void train(const Options& options) {
  if (options.help_config) {
    std::cout << config_to_yaml(engine::TrainConfig{}, /*with_help=*/true);
    return;
  }
  auto config = read_config(options);
  engine::check(config);
  if (options.print_config) {
    std::cout << config_to_yaml(config, /*with_help=*/true);
    return;
  }
  if (options.resume && options.overwrite) {
    throw UsageError("--resume goes on with a run and --overwrite removes it: take one of them");
  }
  // A resumed run may be started from another folder.
  if (!config.data.root.empty()) config.data.root = fs::absolute(config.data.root).string();

  const auto run =
      engine::RunFolder::prepare(options.output, options.resume      ? engine::StartMode::kResume
                                                 : options.overwrite ? engine::StartMode::kOverwrite
                                                                     : engine::StartMode::kNew);
  open_log_file(run.log());
  log_debug("segmamba-train " + version() + " in " + fs::absolute(run.path).string());
  engine::set_compute_threads(config.training.threads);
  std::signal(SIGINT, request_stop);
  std::signal(SIGTERM, request_stop);

  engine::ConsoleObserver console;
  engine::CsvObserver table(run.metrics());
  engine::Observers observers;
  observers.add(console);
  observers.add(table);
  engine::Trainer trainer(config, run, observers, options.device);
  if (trainer.run(stop_requested) == engine::RunEnd::kInterrupted) {
    apps::CommandLine::set_exit_code(128 + stop_signal);
  }
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  segmamba::apps::CommandLine line(
      "segmamba-train", "Trains a segmentation model as a YAML config says.",
      "Examples:\n"
      "  segmamba-train --config configs/demo.yaml --set data.root=cases --output runs/demo\n"
      "  segmamba-train --resume --output runs/demo\n"
      "The output folder holds config.yaml, split.yaml, train.log, metrics.csv and checkpoints/.\n"
      "Ctrl-C and SIGTERM finish the step, save checkpoints/last.pt and end with 130 and 143.");
  line.option("--config,-c", options.config, "YAML config (see configs/)");
  line.option("--set,-s", options.set, "Overrides of config keys, as in training.seed=1");
  line.option("--output,-o", options.output, "Run folder");
  line.flag("--resume", options.resume,
            "Go on with the run in the output folder, or start it where there is none yet");
  line.flag("--overwrite", options.overwrite, "Remove an earlier run in the output folder first");
  line.flag("--print-config", options.print_config, "Print the complete effective config and end");
  line.flag("--help-config", options.help_config,
            "Print every config key with its default and end");
  line.option("--device", options.device, "auto, cpu, cuda or cuda:N");
  line.option("--threads", options.threads, "Instead of training.threads; 0: one a processor");
  return line.run(argc, argv, [&] { train(options); });
}
