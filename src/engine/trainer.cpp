#include "segmamba/engine/trainer.h"

#include <torch/torch.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <optional>
#include <utility>

#include "segmamba/core/error.h"
#include "segmamba/core/files.h"
#include "segmamba/core/log.h"
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
#include "segmamba/engine/fine_tuning.h"
#include "segmamba/engine/losses.h"
#include "segmamba/engine/memory_plan.h"
#include "segmamba/engine/out_of_memory.h"
#include "segmamba/engine/predictor.h"
#include "segmamba/engine/run_history.h"
#include "segmamba/engine/schedule.h"
#include "segmamba/engine/training_data.h"
#include "segmamba/engine/training_step.h"
#include "segmamba/engine/validation.h"
#include "segmamba/nn/cost.h"
#include "segmamba/nn/model.h"
#include "segmamba/nn/weights.h"

namespace segmamba::engine {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// The value of a metric such as "dice_mean" or "hd95_wt"; nan where it is not defined.
double metric_of(const RegionScores& scores, const std::string& metric) {
  const auto cut = metric.find('_');
  const bool is_dice = metric.substr(0, cut) == "dice";
  const auto region = metric.substr(cut + 1);
  if (region == "mean") return is_dice ? scores.mean_dice() : scores.mean_hd95();
  const auto& values = is_dice ? scores.dice : scores.hd95;
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (to_lower(scores.regions[i]) == region) return values[i];
  }
  return std::numeric_limits<double>::quiet_NaN();
}

// Whether a value of the metric is better than another; nan is worse than any number.
bool is_better(const std::string& metric, double value, double other) {
  if (std::isnan(value) || std::isnan(other)) return !std::isnan(value);
  return starts_with(metric, "hd95") ? value < other : value > other;
}

void check_metric(const TrainConfig& config) {
  const auto regions = validation_regions(config.data);
  std::vector<std::string> known = {"dice_mean"};
  if (config.validation.hd95) known.emplace_back("hd95_mean");
  for (const auto& region : regions) {
    known.push_back("dice_" + to_lower(region.name));
    if (config.validation.hd95) known.push_back("hd95_" + to_lower(region.name));
  }
  const auto& metric = config.validation.best_metric;
  if (std::find(known.begin(), known.end(), metric) != known.end()) return;
  throw Error(concat("validation.best_metric: there is no ", metric, "; choose one of ",
                     join(known, ", ")));
}

// Keeps `path` under a second name, so that there is a whole file at every moment.
void keep_copy(const fs::path& path, const fs::path& copy) {
  if (fs::exists(path)) copy_file_atomically(path, copy);
}

// Of ranks other than the first: what a person must know still reaches the log.
class NoticesOnly final : public Observer {
 public:
  void on_notice(const std::string& message) override { log_warning(message); }
};

}  // namespace

struct Trainer::Impl {
  Impl(const TrainConfig& config, const RunFolder& run, Observer& observer, Ranks& ranks,
       const TrainerOptions& options);

  void resume(bool allow_config_change);
  void check_nothing_is_lost() const;
  std::string choose_checkpoint(std::vector<std::string>& damages);
  void load(const Checkpoint& checkpoint, const fs::path& path, bool allow_config_change);
  void undo_validation();
  void open_data();

  RunEnd run_to_end(const std::atomic<bool>& stop);
  void announce();
  void train_one(data::BatchLoader& loader);
  void check_skipped(const StepResult& result) const;
  void check_weights() const;
  bool validation_is_due() const;
  bool patch_validation_is_due() const;
  bool is_finished() const;
  bool stop_is_agreed(const std::atomic<bool>& stop);
  Predictor validation_predictor();
  void run_validation(const std::atomic<bool>& stop);
  void run_patch_validation(const std::atomic<bool>& stop);
  void keep_best(double value);
  void remove_other_best();
  Checkpoint save(const fs::path& path);
  void save_last();
  void save_best();

  TrainConfig config;
  RunFolder folder;
  NoticesOnly notices_only;
  Observer& observer;
  Ranks& ranks;
  torch::Device device;
  std::int64_t local_ranks;
  std::int64_t share;  // of the batch, of this rank
  std::shared_ptr<nn::SegmentationModel> model;
  std::optional<TrainingStep> step;
  std::unique_ptr<data::CaseStore> training_cases, validation_cases;
  std::vector<metrics::Region> regions;
  std::int64_t total;
  bool resumed = false;
  std::vector<std::string> early_notices;  // from before on_start
  TrainingState state;
  std::int64_t saved_iteration = 0;  // of last.pt
  bool is_saved = false;             // whether last.pt holds all of `state`
};

Trainer::Impl::Impl(const TrainConfig& run_config, const RunFolder& run, Observer& run_observer,
                    Ranks& run_ranks, const TrainerOptions& options)
    : config(run_config),
      folder(run),
      observer(run_ranks.is_first() ? run_observer : notices_only),
      ranks(run_ranks),
      device(options.device),
      local_ranks(options.local_ranks),
      share(patches_per_rank(run_config.training, run_ranks.size())),
      regions(validation_regions(run_config.data)),
      total(run_config.training.total_iterations()) {
  complete(config);
  check(config);
  check_metric(config);
  set_tf32(parse_precision(config.training.precision, device) == Precision::kTf32);
  tune_convolutions(config.training.tune_convolutions);

  // The initial weights come from torch's default generator.
  torch::manual_seed(static_cast<std::uint64_t>(config.training.seed));
  model = nn::make_model(config.model);
  check_window(*model, config.patch_size(), "data.patch_size");
  model->set_recomputed(config.training.recompute);
  // A run that goes on has weights of its own.
  if (!config.model.init_from.empty() && folder.all_checkpoints().empty()) {
    early_notices = start_from_weights(*model, config.model);
  }
  if (const auto frozen = freeze(*model, config.model.freeze); frozen > 0) {
    early_notices.push_back(concat("model.freeze: ", frozen, " parameters are not trained"));
  }
  model->to(device);
  ranks.broadcast(model->parameters());
  state.seed = config.training.seed;
  state.best_metric = config.validation.best_metric;
  step.emplace(model, config, ranks);
  resume(options.allow_config_change);
  open_data();
  if (ranks.is_first()) write_file_atomically(folder.config(), config_to_yaml(config));
}

// The name of the newest whole checkpoint; "" where there are none. Damaged ones are put aside:
// they must not become previous.pt, nor be lost. Called on the first rank: all go on from its
// choice.
std::string Trainer::Impl::choose_checkpoint(std::vector<std::string>& damages) {
  std::vector<fs::path> damaged;
  std::string chosen;
  for (const auto& path : folder.all_checkpoints()) {
    try {
      load_checkpoint(path);
      chosen = path.filename().string();
      break;
    } catch (const DamagedCheckpoint& error) {
      damages.emplace_back(error.what());
      damaged.push_back(path);
    }
  }
  if (chosen.empty() && !damages.empty()) {
    throw Error(concat("cannot resume ", folder.path.string(), ": no checkpoint is whole (",
                       join(damages, "; "), "). --overwrite starts anew"));
  }
  for (const auto& path : damaged) rename_file(path, path.string() + ".damaged");
  return chosen;
}

// A run that has come so far that a checkpoint was written does not begin anew without one: its
// metrics would be lost.
void Trainer::Impl::check_nothing_is_lost() const {
  const auto done = read_history(folder.metrics()).iterations();
  if (done <= config.training.checkpoint_every + config.training.max_skipped_steps) return;
  throw Error(concat("cannot resume ", folder.path.string(), ": metrics.csv tells of ", done,
                     " iterations, but there is no checkpoint of them; bring ",
                     folder.checkpoints().string(), " back, or start anew by --overwrite"));
}

void Trainer::Impl::resume(bool allow_config_change) {
  std::vector<std::string> damages;
  const auto own = ranks.is_first() ? choose_checkpoint(damages) : "";
  const auto chosen = ranks.gather(own)[0];
  resumed = !chosen.empty();
  if (!resumed) return check_nothing_is_lost();
  const auto path = folder.checkpoints() / chosen;
  load(load_checkpoint(path), path, allow_config_change);
  for (const auto& damage : damages) early_notices.push_back("not used: " + damage);
  if (!damages.empty()) {
    early_notices.push_back(concat("going on from ", chosen, " of iteration ", state.iteration));
  }
  saved_iteration = state.iteration;
  is_saved = chosen == folder.last_checkpoint().filename();
  if (starts_with(chosen, "best")) undo_validation();
}

// The best are saved within a validation. One that was killed there has left neither all files of
// the best nor its scores: it is done again.
void Trainer::Impl::undo_validation() {
  if (state.validated_iteration != state.iteration) return;
  --state.validated_iteration;
  std::erase_if(state.best,
                [&](const BestValidation& best) { return best.iteration == state.iteration; });
  state.validations_since_best = std::max<std::int64_t>(0, state.validations_since_best - 1);
}

void Trainer::Impl::load(const Checkpoint& checkpoint, const fs::path& path,
                         bool allow_config_change) {
  const auto before = checkpoint_config(checkpoint, path);
  const auto differences = differences_that_matter(config, before);
  if (!differences.empty() && !allow_config_change) {
    throw Error(concat("cannot resume ", folder.path.string(),
                       " with another config: ", join(differences, "; "),
                       ". Take the old values back, add --allow-config-change, or start a new run "
                       "in another folder"));
  }
  for (const auto& difference : differences) {
    early_notices.push_back(
        concat("config changed after iteration ", checkpoint.training.iteration, ": ", difference));
  }
  if (checkpoint.training.iteration > total) {
    throw Error(concat("cannot resume ", folder.path.string(), ": ", checkpoint.training.iteration,
                       " iterations are done, which is more than the ", total, " of the config"));
  }
  state = checkpoint.training;
  state.seed = config.training.seed;
  auto step_state = std::exchange(state.step, {});
  nn::load_state_dict(*model, checkpoint.model);
  if (config.optimizer.name != before.optimizer.name) {
    step_state.optimizer = step->state().optimizer;  // of one without steps
  }
  if (config.training.precision != before.training.precision) {
    step_state.scaler = step->state().scaler;
  }
  step->load(step_state);
  if (state.best_metric != config.validation.best_metric) {
    early_notices.push_back(concat("validation.best_metric is now ", config.validation.best_metric,
                                   ": the best so far, by ", state.best_metric,
                                   ", counts no more"));
    state.best_metric = config.validation.best_metric;
    state.best.clear();
    state.validations_since_best = 0;
  }
}

void Trainer::Impl::open_data() {
  const auto dataset = data::find_dataset(config.data, data::Labels::kRequired);
  // The split of a run stands in its folder: a resumed run keeps it even where cases were added.
  if (!resumed && ranks.is_first()) {
    const auto [split, origin] = data::find_split(config.data, dataset.cases);
    data::write_split(folder.split(), split, origin);
  }
  ranks.barrier();  // it is written
  const auto split = data::read_split(folder.split());
  if (split.train.empty()) throw Error("the split has no cases to train on");
  if (const auto leaks = data::leaking_patients(split, dataset.cases); !leaks.empty()) {
    early_notices.push_back(concat(leaks.size(), " patient(s), such as ", leaks.front(),
                                   ", have scans in more than one part of the split, so scores "
                                   "will be too good"));
  }
  const double memory = 1 / static_cast<double>(local_ranks);
  const double training_share = static_cast<double>(split.train.size()) /
                                static_cast<double>(split.train.size() + split.validation.size());
  training_cases = cases_named(config, dataset, split.train, memory * training_share);
  validation_cases = cases_named(config, dataset, split.validation, memory * (1 - training_share));
}

// Finite gradients may have led to weights that are not. A checkpoint of them would be of no use,
// and push out those that are.
void Trainer::Impl::check_weights() const {
  for (const auto& [name, tensor] : nn::state_dict(*model)) {
    if (!torch::isFloatingType(tensor.scalar_type())) continue;
    if (torch::isfinite(tensor).all().item<bool>()) continue;
    throw Error(concat("iteration ", state.iteration, ": ", name,
                       " is not finite any more; training stopped, and the checkpoints are of "
                       "before. A smaller optimizer.learning_rate or training.gradient_clip_norm "
                       "may help"));
  }
}

Checkpoint Trainer::Impl::save(const fs::path& path) {
  check_weights();
  Checkpoint checkpoint{nn::state_dict(*model), config_to_yaml(config), state, version()};
  checkpoint.training.step = step->state();
  save_checkpoint(path, checkpoint);
  return checkpoint;
}

void Trainer::Impl::save_last() {
  saved_iteration = state.iteration;
  is_saved = true;
  if (!ranks.is_first()) return;
  // The new file is whole before the old one gives its name away: at no moment are there fewer than
  // there were before.
  save(folder.next_checkpoint());
  keep_copy(folder.last_checkpoint(), folder.previous_checkpoint());
  rename_file(folder.next_checkpoint(), folder.last_checkpoint());
  observer.on_checkpoint(folder.last_checkpoint(), state.iteration);
}

void Trainer::Impl::save_best() {
  if (!ranks.is_first()) return;
  const auto weights = save(folder.best_checkpoint()).weights();
  auto network = config.model;
  network.init_from.clear();  // how these came about is for config.yaml
  network.freeze.clear();
  nn::write_safetensors(folder.best_weights(),
                        {weights, {{"format", "pt"}, {"model", config_to_yaml(network)}}});
  observer.on_checkpoint(folder.best_checkpoint(), state.iteration);
}

// Files of validations that are no longer among the best.
void Trainer::Impl::remove_other_best() {
  for (const auto& path : folder.all_checkpoints()) {
    if (!starts_with(path.filename().string(), "best-")) continue;
    const bool is_kept =
        std::any_of(state.best.begin(), state.best.end(), [&](const BestValidation& best) {
          return config.validation.keep_best > 1 && path == folder.best_checkpoint(best.iteration);
        });
    if (!is_kept) remove_file(path);
  }
}

void Trainer::Impl::keep_best(double value) {
  const auto place = std::find_if(
      state.best.begin(), state.best.end(),
      [&](const BestValidation& best) { return is_better(state.best_metric, value, best.value); });
  const bool is_best = place == state.best.begin();
  state.validations_since_best = is_best ? 0 : state.validations_since_best + 1;
  const auto limit = static_cast<std::size_t>(config.validation.keep_best);
  if (static_cast<std::size_t>(place - state.best.begin()) >= limit) return;
  const bool keeps_several = ranks.is_first() && limit > 1;
  if (keeps_several && is_best && !state.best.empty()) {
    // The best so far has no file of its own where keep_best was 1 before.
    const auto second = folder.best_checkpoint(state.best.front().iteration);
    if (!fs::exists(second)) keep_copy(folder.best_checkpoint(), second);
  }
  state.best.insert(place, {value, state.iteration});
  if (state.best.size() > limit) state.best.resize(limit);
  if (is_best) save_best();
  if (keeps_several && is_best) {
    keep_copy(folder.best_checkpoint(), folder.best_checkpoint(state.iteration));
  } else if (keeps_several) {
    save(folder.best_checkpoint(state.iteration));
  }
  if (ranks.is_first()) remove_other_best();
}

void Trainer::Impl::check_skipped(const StepResult& result) const {
  if (state.skipped_in_a_row <= config.training.max_skipped_steps) return;
  throw Error(concat("iteration ", state.iteration, ": the loss is ", format_double(result.loss),
                     " and the gradient norm ", format_double(result.gradient_norm),
                     "; not finite first: ", result.culprit, ". It is step ",
                     state.skipped_in_a_row, " in a row (training.max_skipped_steps is ",
                     config.training.max_skipped_steps,
                     "); training stopped, the checkpoints are of before them. A smaller "
                     "optimizer.learning_rate or training.gradient_clip_norm, or "
                     "training.precision fp32, may help"));
}

void Trainer::Impl::train_one(data::BatchLoader& loader) {
  const auto start = Clock::now();
  const auto& batch = loader.next();
  const double data_seconds = seconds_since(start);
  // The result of the step is awaited before the next batch is asked for, which is when the loader
  // takes the memory of this one back.
  const auto [images, labels] = to_device(batch, device);
  // For models that draw random numbers themselves: their state, too, follows from the iteration.
  const auto iteration = static_cast<std::uint64_t>(state.iteration);
  const auto rank = static_cast<std::uint64_t>(ranks.rank());
  torch::manual_seed(Random::keyed(state.seed, {iteration, rank}).next_u64());

  const double rate =
      learning_rate_at(config.schedule, config.optimizer.learning_rate, state.iteration, total);
  const auto result = step->run(images, labels, rate);
  state.skipped_in_a_row = result.finite ? 0 : state.skipped_in_a_row + 1;
  state.skipped_steps += result.finite ? 0 : 1;
  ++state.iteration;
  is_saved = false;
  observer.on_step({.iteration = state.iteration,
                    .total_iterations = total,
                    .learning_rate = rate,
                    .loss = result.loss,
                    .gradient_norm = result.gradient_norm,
                    .seconds = seconds_since(start),
                    .data_seconds = data_seconds,
                    .loss_scale = result.loss_scale,
                    .culprit = result.culprit,
                    .skipped = !result.finite,
                    .device_bytes = device.is_cpu() ? 0 : most_memory_taken(device)});
  check_skipped(result);
}

bool Trainer::Impl::validation_is_due() const {
  if (validation_cases->size() == 0 || config.validation.every == 0) return false;
  const bool at_a_mark = state.iteration % config.validation.every == 0 || state.iteration == total;
  return at_a_mark && state.iteration > state.validated_iteration;
}

bool Trainer::Impl::patch_validation_is_due() const {
  const auto every = config.validation.patches_every;
  return every > 0 && validation_cases->size() > 0 && state.iteration % every == 0 &&
         state.iteration > std::max(state.patch_validated_iteration, state.validated_iteration);
}

bool Trainer::Impl::is_finished() const {
  const auto patience = config.training.early_stop;
  return state.iteration == total || (patience > 0 && state.validations_since_best >= patience);
}

bool Trainer::Impl::stop_is_agreed(const std::atomic<bool>& stop) {
  return ranks.sum({stop ? 1.0 : 0.0})[0] > 0;
}

Predictor Trainer::Impl::validation_predictor() {
  auto with = config;
  with.inference.overlap = config.validation.overlap;
  with.inference.mirror_axes.clear();
  return Predictor({model}, with, {.device = device.str(), .precision = config.training.precision});
}

void Trainer::Impl::run_validation(const std::atomic<bool>& stop) {
  const auto start = Clock::now();
  ranks.broadcast(model->buffers());  // statistics of batch norms, which each rank has its own of
  const auto predictor = validation_predictor();
  const auto all = static_cast<std::int64_t>(validation_cases->size());
  const auto limit = config.validation.max_cases;
  const auto count = limit > 0 ? std::min(limit, all) : all;
  ValidationResult result;
  {
    const AverageInUse average(step->average());
    result =
        validate({.predictor = predictor,
                  .cases = *validation_cases,
                  .regions = regions,
                  .count = count,
                  .with_hd95 = config.validation.hd95,
                  .ranks = ranks,
                  .cancelled = [&stop] { return stop.load(); },
                  .on_case = [&](std::int64_t done,
                                 std::int64_t share) { observer.on_validation_case(done, share); },
                  .on_bad_case =
                      [&](const std::string& message) {
                        observer.on_notice("left out of validation: " + message);
                      }});
  }
  if (std::ssize(result.cases) < count) {
    observer.on_notice(concat("the scores of this validation are of ", result.cases.size(), " of ",
                              count, " cases"));
  }
  state.validated_iteration = state.iteration;
  is_saved = false;
  const double metric = metric_of(result.mean, state.best_metric);
  keep_best(metric);
  observer.on_validation({.iteration = state.iteration,
                          .mean = std::move(result.mean),
                          .cases = std::move(result.cases),
                          .pictures = std::move(result.pictures),
                          .metric = metric,
                          .is_best = state.validations_since_best == 0,
                          .seconds = seconds_since(start)});
  if (state.iteration < total && is_finished()) {
    observer.on_notice(concat("ended early: ", state.validations_since_best,
                              " validations without a better ", state.best_metric,
                              " (training.early_stop)"));
  }
}

void Trainer::Impl::run_patch_validation(const std::atomic<bool>& stop) {
  const auto start = Clock::now();
  ranks.broadcast(model->buffers());
  const auto predictor = validation_predictor();
  auto options = patch_options(config);
  options.max_bad_cases = static_cast<std::int64_t>(validation_cases->size()) - 1;
  data::PatchSource source(*validation_cases, options);
  RegionScores scores;
  {
    const AverageInUse average(step->average());
    scores = validate_patches(predictor, source, config.validation.patches, regions, ranks,
                              [&stop] { return stop.load(); });
  }
  for (const auto& bad : source.take_bad_cases()) {
    observer.on_notice("left out of validation: " + bad.message);
  }
  is_saved = false;
  state.patch_validated_iteration = state.iteration;
  observer.on_patch_validation({.iteration = state.iteration,
                                .patches = config.validation.patches,
                                .scores = scores,
                                .seconds = seconds_since(start)});
}

void Trainer::Impl::announce() {
  std::vector<std::string> names;
  for (const auto& region : regions) names.push_back(region.name);
  observer.on_start({.first_iteration = state.iteration,
                     .total_iterations = total,
                     .iterations_per_epoch = config.training.iterations_per_epoch,
                     .training_cases = static_cast<std::int64_t>(training_cases->size()),
                     .validation_cases = static_cast<std::int64_t>(validation_cases->size()),
                     .parameters = nn::parameter_count(*model),
                     .batch_size = config.training.batch_size,
                     .ranks = ranks.size(),
                     .device = device.str(),
                     .regions = names,
                     .best_metric = state.best_metric,
                     .config = config_values(config)});
  if (!ranks.is_first()) return;  // it would say the same
  for (const auto& notice : early_notices) observer.on_notice(notice);
}

RunEnd Trainer::Impl::run_to_end(const std::atomic<bool>& stop) {
  announce();
  data::PatchSource source(*training_cases, patch_options(config));
  data::BatchLoader loader(source,
                           {.batch_size = share,
                            .rank = ranks.rank(),
                            .ranks = ranks.size(),
                            .render = config.training.augment_on == "cpu",
                            .workers = config.training.workers,
                            .allocate = batch_memory(device),
                            .on_bad_case =
                                [this](const data::BadCase& bad) {
                                  observer.on_notice(concat("left out of training: ", bad.message));
                                }},
                           state.iteration, total);
  try {
    while (!stop_is_agreed(stop)) {
      if (validation_is_due()) {
        run_validation(stop);
      } else if (patch_validation_is_due()) {
        run_patch_validation(stop);
      }
      if (is_finished()) break;
      train_one(loader);
      // A run of skipped steps may end the training: the checkpoint before it is the good one.
      const auto every = config.training.checkpoint_every;
      const bool is_due = state.iteration / every > saved_iteration / every;
      if (is_due && state.skipped_in_a_row == 0) save_last();
    }
  } catch (const Interrupted&) {  // a validation that the next run does again
  }
  if (!is_saved) save_last();
  const bool complete = is_finished() && !validation_is_due();
  // Without validation the last model is the best there is.
  if (complete && state.best.empty()) save_best();
  observer.on_end(complete ? RunEnd::kComplete : RunEnd::kInterrupted, state.iteration);
  return complete ? RunEnd::kComplete : RunEnd::kInterrupted;
}

void check_start(const TrainConfig& config, const torch::Device& device, std::int64_t ranks) {
  check(config);
  check_metric(config);
  parse_precision(config.training.precision, device);
  patches_per_rank(config.training, ranks);
  check_recording(config.training, device, ranks);
  const auto model = nn::make_meta_model(config.model);
  check_window(*model, config.patch_size(), "data.patch_size");
  model->set_recomputed(config.training.recompute);
  freeze(*model, config.model.freeze);
  deep_supervision_weights(config.loss, model->deep_output_count(),
                           model->trains_coarsest_output());
  if (!config.model.init_from.empty()) {
    start_from_weights(*nn::make_model(config.model), config.model);
  }
  const auto dataset = data::find_dataset(config.data, data::Labels::kRequired);
  const auto split = data::find_split(config.data, dataset.cases).split;
  if (split.train.empty()) throw Error("the split has no cases to train on");
  cases_named(config, dataset, split.train, 1);
  cases_named(config, dataset, split.validation, 1);
}

namespace {

// Calls `work`; where memory runs out, an Error with advice instead.
template <class Work>
auto with_memory_advice(const TrainConfig& config, const torch::Device& device, std::int64_t ranks,
                        const Work& work) {
  try {
    return work();
  } catch (const std::exception& error) {
    const auto advice = out_of_memory_advice(error, config, device, ranks);
    if (!advice) throw;
    throw Error(concat(*advice, ". Checkpoints are kept"));
  }
}

}  // namespace

Trainer::Trainer(const TrainConfig& config, const RunFolder& run, Observer& observer, Ranks& ranks,
                 const TrainerOptions& options)
    : impl_(with_memory_advice(config, options.device, ranks.size(), [&] {
        return std::make_unique<Impl>(config, run, observer, ranks, options);
      })) {}

Trainer::~Trainer() = default;

RunEnd Trainer::run(const std::atomic<bool>& stop) {
  try {
    return with_memory_advice(impl_->config, impl_->device, impl_->ranks.size(),
                              [&] { return impl_->run_to_end(stop); });
  } catch (const std::exception& error) {
    const std::string message = error.what();
    impl_->observer.on_failure(message.substr(0, message.find('\n')), impl_->state.iteration);
    throw;
  }
}

}  // namespace segmamba::engine
