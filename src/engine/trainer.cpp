#include "segmamba/engine/trainer.h"

#include <torch/torch.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <optional>
#include <utility>

#include "segmamba/core/error.h"
#include "segmamba/core/files.h"
#include "segmamba/core/random.h"
#include "segmamba/core/text.h"
#include "segmamba/core/version.h"
#include "segmamba/data/batch_loader.h"
#include "segmamba/data/case_store.h"
#include "segmamba/data/patch_source.h"
#include "segmamba/data/split.h"
#include "segmamba/engine/checkpoint.h"
#include "segmamba/engine/device.h"
#include "segmamba/engine/device_batch.h"
#include "segmamba/engine/predictor.h"
#include "segmamba/engine/schedule.h"
#include "segmamba/engine/training_step.h"
#include "segmamba/engine/validation.h"
#include "segmamba/nn/model.h"
#include "segmamba/nn/weights.h"

namespace segmamba::engine {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// The split of a run stands in its folder: a resumed run keeps it even where cases were added.
data::Split split_of_run(const TrainConfig& config, const RunFolder& run,
                         const std::vector<data::Case>& cases, bool resumed) {
  if (resumed) return data::read_split(run.split());
  auto [split, origin] = data::find_split(config.data, cases);
  data::write_split(run.split(), split, origin);
  return split;
}

std::unique_ptr<data::CaseStore> cases_named(const TrainConfig& config,
                                             const data::Dataset& dataset,
                                             const std::vector<std::string>& names,
                                             double memory_share) {
  data::Dataset part = dataset;
  part.cases = data::select_cases(dataset.cases, names, "the split of this run");
  auto data_config = config.data;
  data_config.memory_gb *= memory_share;
  return data::open_cases(std::move(part), data_config, config.preprocess);
}

std::vector<std::string> region_names(const std::vector<std::string>& classes) {
  std::vector<std::string> names;
  for (const auto& region : validation_regions(classes)) names.push_back(region.name);
  return names;
}

data::PatchOptions patch_options(const TrainConfig& config) {
  return {.size = config.patch_size(),
          .seed = static_cast<std::uint64_t>(config.training.seed),
          .sampling = config.sampling,
          .augment = config.augment,
          .max_bad_cases = config.data.max_bad_cases};
}

// Memory that the device can read while the host goes on.
std::function<std::shared_ptr<void>(std::size_t)> batch_memory(const torch::Device& device) {
  if (!device.is_cuda()) return {};
  return [](std::size_t bytes) -> std::shared_ptr<void> {
    const auto options = torch::TensorOptions(torch::kUInt8).pinned_memory(true);
    auto tensor =
        std::make_shared<torch::Tensor>(torch::empty({static_cast<std::int64_t>(bytes)}, options));
    return {tensor, tensor->data_ptr()};
  };
}

}  // namespace

struct Trainer::Impl {
  Impl(const TrainConfig& config, const RunFolder& run, Observer& observer,
       const std::string& device);

  RunEnd run_to_end(const std::atomic<bool>& stop);
  void train_one(data::BatchLoader& loader);
  bool validation_is_due() const;
  void run_validation(const std::atomic<bool>& stop);
  void save(const std::filesystem::path& path);
  void resume();

  TrainConfig config;
  RunFolder folder;
  Observer& observer;
  torch::Device device;
  std::shared_ptr<nn::SegmentationModel> model;
  std::optional<TrainingStep> step;
  std::unique_ptr<data::CaseStore> training_cases, validation_cases;
  std::int64_t total;
  TrainingState state;
};

Trainer::Impl::Impl(const TrainConfig& run_config, const RunFolder& run, Observer& run_observer,
                    const std::string& device_name)
    : config(run_config),
      folder(run),
      observer(run_observer),
      device(select_device(device_name)),
      total(run_config.training.total_iterations()) {
  check(config);
  const bool resumed = std::filesystem::exists(folder.last_checkpoint());

  // The initial weights come from torch's default generator.
  torch::manual_seed(static_cast<std::uint64_t>(config.training.seed));
  model = nn::make_model(config.model);
  check_window(*model, config.patch_size(), "data.patch_size");
  model->to(device);
  step.emplace(model, config.loss, config.optimizer, config.training.gradient_clip_norm);
  state.seed = config.training.seed;
  if (resumed) resume();

  const auto dataset = data::find_dataset(config.data, data::Labels::kRequired);
  const auto split = split_of_run(config, folder, dataset.cases, resumed);
  if (split.train.empty()) throw Error("the split has no cases to train on");
  if (const auto leaks = data::leaking_patients(split, dataset.cases); !leaks.empty()) {
    observer.on_notice(concat(leaks.size(), " patient(s), such as ", leaks.front(),
                              ", have scans in more than one part of the split, so scores will be "
                              "too good"));
  }
  const double training_share = static_cast<double>(split.train.size()) /
                                static_cast<double>(split.train.size() + split.validation.size());
  training_cases = cases_named(config, dataset, split.train, training_share);
  validation_cases = cases_named(config, dataset, split.validation, 1 - training_share);
  write_file_atomically(folder.config(), config_to_yaml(config));
}

void Trainer::Impl::resume() {
  const auto path = folder.last_checkpoint();
  const auto checkpoint = load_checkpoint(path);
  const auto differences = differences_that_matter(config, checkpoint_config(checkpoint, path));
  if (!differences.empty()) {
    throw Error(concat("cannot resume ", folder.path.string(),
                       " with another config: ", join(differences, "; "),
                       ". Take the old values back, or start a new run in another folder"));
  }
  nn::load_state_dict(*model, checkpoint.model);
  step->optimizer().load_state(checkpoint.training.optimizer);
  state = checkpoint.training;
  state.optimizer.clear();
}

void Trainer::Impl::save(const std::filesystem::path& path) {
  Checkpoint checkpoint{nn::state_dict(*model), config_to_yaml(config), state, version()};
  checkpoint.training.optimizer = step->optimizer().state();
  save_checkpoint(path, checkpoint);
  observer.on_checkpoint(path, state.iteration);
}

void Trainer::Impl::train_one(data::BatchLoader& loader) {
  const auto start = Clock::now();
  // The result of the step is awaited before the next batch is asked for, which is when the loader
  // takes the memory of this one back.
  const auto [images, labels] = to_device(loader.next(), device);
  // For models that draw random numbers themselves: their state, too, follows from the iteration.
  const auto iteration = static_cast<std::uint64_t>(state.iteration);
  torch::manual_seed(Random::keyed(state.seed, {iteration}).next_u64());

  const double rate =
      learning_rate_at(config.schedule, config.optimizer.learning_rate, state.iteration, total);
  const auto result = step->run(images, labels, rate);
  if (!result.finite) {
    throw Error(concat("iteration ", state.iteration + 1, ": the loss is ",
                       format_double(result.loss), " and the gradient norm ",
                       format_double(result.gradient_norm),
                       "; training stopped, earlier checkpoints are kept. A smaller "
                       "optimizer.learning_rate or training.gradient_clip_norm may help"));
  }
  ++state.iteration;
  observer.on_step({.iteration = state.iteration,
                    .total_iterations = total,
                    .learning_rate = rate,
                    .loss = result.loss,
                    .gradient_norm = result.gradient_norm,
                    .seconds = seconds_since(start)});
}

bool Trainer::Impl::validation_is_due() const {
  if (validation_cases->size() == 0 || config.validation.every == 0) return false;
  const bool at_a_mark = state.iteration % config.validation.every == 0 || state.iteration == total;
  return at_a_mark && state.iteration > state.validated_iteration;
}

void Trainer::Impl::run_validation(const std::atomic<bool>& stop) {
  const auto start = Clock::now();
  auto inference = config.inference;
  inference.overlap = config.validation.overlap;
  inference.mirror_axes.clear();
  Predictor predictor(model, inference, config.patch_size(), device);
  predictor.stop_on(stop);
  const auto all = static_cast<std::int64_t>(validation_cases->size());
  const auto limit = config.validation.max_cases;
  const auto count = limit > 0 ? std::min(limit, all) : all;
  const auto dice = validate(
      predictor, *validation_cases, count,
      [&](std::int64_t done) { observer.on_validation_case(done, count); },
      [&](const std::string& message) {
        observer.on_notice("left out of validation: " + message);
      });
  state.validated_iteration = state.iteration;
  const bool is_best = dice.mean() > state.best_dice;
  if (is_best) {
    state.best_dice = dice.mean();
    state.best_iteration = state.iteration;
    save(folder.best_checkpoint());
  }
  observer.on_validation({.iteration = state.iteration,
                          .cases = count,
                          .dice = dice,
                          .is_best = is_best,
                          .seconds = seconds_since(start)});
}

RunEnd Trainer::Impl::run_to_end(const std::atomic<bool>& stop) {
  std::int64_t parameters = 0;
  for (const auto& parameter : model->parameters()) parameters += parameter.numel();
  observer.on_start({.first_iteration = state.iteration,
                     .total_iterations = total,
                     .training_cases = static_cast<std::int64_t>(training_cases->size()),
                     .validation_cases = static_cast<std::int64_t>(validation_cases->size()),
                     .parameters = parameters,
                     .device = device.str(),
                     .regions = region_names(config.data.classes)});
  data::PatchSource source(*training_cases, patch_options(config));
  data::BatchLoader loader(source,
                           {.batch_size = config.training.batch_size,
                            .render = config.training.augment_on == "cpu",
                            .workers = config.training.workers,
                            .allocate = batch_memory(device),
                            .on_bad_case =
                                [this](const data::BadCase& bad) {
                                  observer.on_notice(concat("left out of training: ", bad.message));
                                }},
                           state.iteration, total);
  try {
    while (!stop) {
      if (validation_is_due()) run_validation(stop);
      if (state.iteration == total || stop) break;
      train_one(loader);
      if (state.iteration % config.training.checkpoint_every == 0) save(folder.last_checkpoint());
    }
  } catch (const Interrupted&) {  // a validation that the next run does again
  }
  save(folder.last_checkpoint());
  const bool complete = state.iteration == total && !validation_is_due();
  // Without validation the last model is the best there is.
  if (complete && state.best_dice < 0) save(folder.best_checkpoint());
  observer.on_end(complete ? RunEnd::kComplete : RunEnd::kInterrupted, state.iteration);
  return complete ? RunEnd::kComplete : RunEnd::kInterrupted;
}

Trainer::Trainer(const TrainConfig& config, const RunFolder& run, Observer& observer,
                 const std::string& device)
    : impl_(std::make_unique<Impl>(config, run, observer, device)) {}

Trainer::~Trainer() = default;

RunEnd Trainer::run(const std::atomic<bool>& stop) { return impl_->run_to_end(stop); }

}  // namespace segmamba::engine
