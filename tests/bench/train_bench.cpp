// What the training loop costs beside the arithmetic of a step, on the smoke config:
//
//   bench_train [--config FILE] [--iterations N] [--rounds N] [--set KEY=VALUE ...]
//
// Bare: forward, loss, backward and optimizer on one batch that lies in memory. Run:
// segmamba-train's Trainer with its observers, from files, with augmentation by workers, clipping,
// tables, TensorBoard and checkpoints. Both in turns, so that a machine that slows down slows both.
#include <torch/torch.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <optional>
#include <string>
#include <vector>

#include "segmamba/core/error.h"
#include "segmamba/core/log.h"
#include "segmamba/data/phantom.h"
#include "segmamba/engine/device.h"
#include "segmamba/engine/losses.h"
#include "segmamba/engine/optimizer.h"
#include "segmamba/engine/run_observers.h"
#include "segmamba/engine/trainer.h"
#include "segmamba/nn/model.h"
#include "support/temporary_folder.h"

namespace {

using namespace segmamba;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double quantile(std::vector<double> values, double share) {
  std::sort(values.begin(), values.end());
  return values[static_cast<std::size_t>(share * static_cast<double>(values.size() - 1) + 0.5)];
}

// The arithmetic alone. Seconds a step.
class BareLoop {
 public:
  BareLoop(const engine::TrainConfig& config, const torch::Device& device)
      : config_(config), model_(nn::make_model(config.model)) {
    model_->to(device);
    optimizer_.emplace(config.optimizer, *model_);
    const auto& size = config.data.patch_size;
    const auto batch = config.training.batch_size;
    images_ = torch::randn({batch, config.model.in_channels, size[0], size[1], size[2]}).to(device);
    labels_ = torch::randint(0, config.model.out_channels, {batch, size[0], size[1], size[2]},
                             torch::kLong)
                  .to(device);
  }
  double run(std::int64_t steps) {
    const auto start = Clock::now();
    for (std::int64_t i = 0; i < steps; ++i) {
      optimizer_->zero_grad();
      const auto loss = engine::segmentation_loss(config_.loss, model_->forward(images_), labels_);
      loss.backward();
      optimizer_->step(config_.optimizer.learning_rate);
      loss.item<float>();  // a step ends when its loss is known
    }
    return seconds_since(start) / static_cast<double>(steps);
  }

 private:
  engine::TrainConfig config_;
  std::shared_ptr<nn::SegmentationModel> model_;
  std::optional<engine::Optimizer> optimizer_;
  torch::Tensor images_, labels_;
};

// From the end of the first step, which waits for the workers' first batch, to that of the last.
class StepClock final : public engine::Observer {
 public:
  void on_step(const engine::StepDone& event) override {
    if (count_++ == 0) start_ = Clock::now();
    waiting += count_ > 1 ? event.data_seconds : 0;
  }
  double seconds_a_step() const { return seconds_since(start_) / static_cast<double>(count_ - 1); }
  double waiting = 0;

 private:
  std::int64_t count_ = 0;
  Clock::time_point start_;
};

double run_trainer(const engine::TrainConfig& config, const torch::Device& device,
                   const std::filesystem::path& folder, double& waiting) {
  const auto run = engine::RunFolder::prepare(folder, engine::StartMode::kOverwrite);
  const auto owned = engine::run_observers(run);
  StepClock clock;
  engine::Observers observers;
  for (const auto& observer : owned) observers.add(*observer);
  observers.add(clock);
  const auto ranks = engine::single_rank();
  engine::Trainer trainer(config, run, observers, *ranks, {.device = device});
  const std::atomic<bool> stop = false;
  trainer.run(stop);
  waiting = clock.waiting / static_cast<double>(config.training.iterations - 1);
  return clock.seconds_a_step();
}

void bench(const std::filesystem::path& path, const std::vector<std::string>& overrides,
           std::int64_t iterations, std::int64_t rounds) {
  auto config = load_config<engine::TrainConfig>(path, overrides);
  const auto device = engine::select_device("auto");
  const test::TemporaryFolder folder;
  data::write_phantoms(folder.path() / "cases", {.cases = 8, .size = {64, 64, 64}, .seed = 1});
  config.data.root = (folder.path() / "cases").string();
  config.training.iterations = iterations + 1;
  engine::set_compute_threads(config.training.threads);
  set_log_level(LogLevel::kWarning);

  BareLoop bare(config, device);
  bare.run(3);
  std::vector<double> bare_seconds, run_seconds, overheads;
  for (std::int64_t i = 0; i < rounds; ++i) {
    double waiting = 0;
    bare_seconds.push_back(bare.run(iterations));
    run_seconds.push_back(run_trainer(config, device, folder.path() / "run", waiting));
    // Beside the mean of the bare loops before and after it, so that a drift of the machine
    // cancels.
    const double after = bare.run(iterations);
    overheads.push_back(100 * (run_seconds.back() / ((bare_seconds.back() + after) / 2) - 1));
    std::printf(
        "round %lld: bare %.1f ms, run %.1f ms a step (%+.1f %%), waiting for data %.2f ms\n",
        static_cast<long long>(i + 1), 1000 * bare_seconds.back(), 1000 * run_seconds.back(),
        overheads.back(), 1000 * waiting);
    std::fflush(stdout);
  }
  std::printf(
      "median: bare %.1f ms, run %.1f ms a step: %.2f iterations/s, overhead %.1f %% "
      "(middle half of the rounds %.1f to %.1f %%)\n",
      1000 * quantile(bare_seconds, 0.5), 1000 * quantile(run_seconds, 0.5),
      1 / quantile(run_seconds, 0.5), quantile(overheads, 0.5), quantile(overheads, 0.25),
      quantile(overheads, 0.75));
}

}  // namespace

int main(int argc, char** argv) {
  std::filesystem::path config = std::string(SEGMAMBA_SOURCE_DIR) + "/configs/cpu-smoke.yaml";
  std::vector<std::string> overrides;
  std::int64_t iterations = 20, rounds = 11;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string option = argv[i], value = argv[i + 1];
    if (option == "--config") config = value;
    if (option == "--set") overrides.push_back(value);
    if (option == "--iterations") iterations = std::stoll(value);
    if (option == "--rounds") rounds = std::stoll(value);
  }
  try {
    bench(config, overrides, iterations, rounds);
  } catch (const segmamba::Error& error) {
    std::fprintf(stderr, "bench_train: %s\n", error.what());
    return 1;
  }
}
