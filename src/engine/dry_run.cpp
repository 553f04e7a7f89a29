#include "segmamba/engine/dry_run.h"

#include <torch/torch.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <iomanip>
#include <memory>
#include <utility>

#include "segmamba/core/error.h"
#include "segmamba/core/text.h"
#include "segmamba/data/batch_loader.h"
#include "segmamba/engine/device.h"
#include "segmamba/engine/device_batch.h"
#include "segmamba/engine/memory_plan.h"
#include "segmamba/engine/out_of_memory.h"
#include "segmamba/engine/predictor.h"
#include "segmamba/engine/sliding_window.h"
#include "segmamba/engine/trainer.h"
#include "segmamba/engine/training_data.h"
#include "segmamba/engine/training_step.h"
#include "segmamba/nn/cost.h"
#include "segmamba/nn/model.h"

namespace segmamba::engine {
namespace {

// Enough to see the rate: the first step also chooses algorithms and fills caches.
constexpr std::int64_t kTimedSteps = 3;
constexpr double kTimedSeconds = 60;
constexpr std::size_t kCases = 4;  // that the timed patches are of

class Stopwatch {
 public:
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

std::string bytes(std::int64_t count) { return format_bytes(static_cast<std::uint64_t>(count)); }

// "12 s" or "0.034 s"; longer times as a clock has them.
std::string duration(double seconds) {
  if (seconds >= 100) return format_duration(seconds);
  return format_fixed(seconds, seconds < 1 ? 3 : 1) + " s";
}

class DryRun {
 public:
  DryRun(const TrainConfig& config, const torch::Device& device, std::ostream& out,
         std::int64_t ranks)
      : config_(config),
        device_(device),
        out_(out),
        ranks_(ranks),
        share_(patches_per_rank(config.training, ranks)) {}

  void show_config(bool every_key);
  void show_data();
  void show_model();
  void show_times();

 private:
  void title(const std::string& text) { out_ << "\n" << text << "\n"; }
  void row(const std::string& name, const std::string& value) {
    const auto width = std::max(name.size() + 2, std::size_t{32});
    out_ << "  " << std::left << std::setw(static_cast<int>(width)) << name << value << "\n";
  }
  void show_case(const data::PreparedCase& item);
  double seconds_of_loading(data::PatchSource& patches);
  double seconds_of_step(data::PatchSource& patches);
  double seconds_of_validation();
  std::int64_t batch_bytes() const {
    const auto voxels = data::volume_of(config_.patch_size());
    return share_ * voxels * (config_.model.in_channels * 4 + 1);
  }
  data::LoaderOptions loader_options(std::int64_t workers) const {
    return {.batch_size = share_,
            .render = config_.training.augment_on == "cpu",
            .workers = workers,
            .allocate = batch_memory(device_)};
  }
  std::int64_t batches_in_memory() const {
    return data::BatchLoader::batches_held(loader_options(config_.training.workers));
  }
  // ", one of 4 ranks" where there are several.
  std::string of_ranks() const { return ranks_ > 1 ? concat(", one of ", ranks_, " ranks") : ""; }

  TrainConfig config_;
  torch::Device device_;
  std::ostream& out_;
  std::int64_t ranks_;
  std::int64_t share_;  // patches of an update that a rank takes
  std::shared_ptr<nn::SegmentationModel> model_;
  data::Split split_;
  data::Dataset dataset_;
  std::unique_ptr<data::CaseStore> cases_;  // the first few that train
  std::int64_t case_bytes_ = 0;
};

void DryRun::show_config(bool every_key) {
  title(every_key ? "Config" : "Config, where it differs from the defaults");
  TrainConfig usual;
  usual.model.name = config_.model.name;  // which decides the keys of its section
  const auto values = config_values(config_), defaults = config_values(usual);
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (every_key || values[i].first == "model.name" || values[i].second != defaults[i].second)
      row(values[i].first, values[i].second);
  }
}

void DryRun::show_data() {
  dataset_ = data::find_dataset(config_.data, data::Labels::kRequired);
  auto [split, origin] = data::find_split(config_.data, dataset_.cases);
  split_ = std::move(split);
  if (split_.train.empty()) throw Error("the split has no cases to train on");
  title("Data");
  row("cases", concat(dataset_.cases.size(), " (", dataset_.layout, ") in ",
                      config_.data.root.empty() ? config_.data.cache : config_.data.root));
  row("train, validation, test", concat(split_.train.size(), ", ", split_.validation.size(), ", ",
                                        split_.test.size(), " (", origin, ")"));
  const auto leaks = data::leaking_patients(split_, dataset_.cases);
  if (!leaks.empty()) {
    row("patients in several parts",
        concat(leaks.size(), ", such as ", leaks.front(), ": scores will be too good"));
  }
  row("channels", join(config_.data.channels, ", "));
  row("classes", join(config_.data.classes, ", "));

  const auto count = std::min(split_.train.size(), kCases);
  cases_ = cases_named(config_, dataset_, {split_.train.begin(), split_.train.begin() + count}, 1);
  const Stopwatch preparing;
  const auto first = cases_->get(0);
  const double seconds = preparing.seconds();
  for (std::size_t i = 1; i < count; ++i) cases_->get(i);
  case_bytes_ = static_cast<std::int64_t>(first->image.size_bytes() + first->labels.size());
  show_case(*first);
  row(config_.data.cache.empty() ? "preparing it" : "opening it", duration(seconds));
}

void DryRun::show_case(const data::PreparedCase& item) {
  row("first case", concat(item.name, ", ", join(item.size, " x "), " voxels of ",
                           join(item.spacing, " x "), " mm (D x H x W), ", bytes(case_bytes_)));
  std::vector<std::string> millilitres;
  const double voxel = item.spacing[0] * item.spacing[1] * item.spacing[2] / 1000;
  for (std::int64_t c = 1; c < item.classes; ++c) {
    std::int64_t voxels = 0;
    for (std::size_t i = static_cast<std::size_t>(c); i < item.class_counts.size();
         i += static_cast<std::size_t>(item.classes)) {
      voxels += item.class_counts[i];
    }
    millilitres.push_back(concat(config_.data.classes[static_cast<std::size_t>(c)], " ",
                                 format_fixed(static_cast<double>(voxels) * voxel, 1), " ml"));
  }
  row("", join(millilitres, ", "));
}

void DryRun::show_model() {
  torch::manual_seed(static_cast<std::uint64_t>(config_.training.seed));
  model_ = nn::make_model(config_.model);
  model_->set_recomputed(config_.training.recompute);
  check_window(*model_, config_.patch_size(), "data.patch_size");
  const auto parameters = nn::parameter_count(*model_);
  title("Model");
  row("parameters", concat(parameters));
  row("parts", join(model_->parts(), ", "));

  const auto plan = plan_memory(config_, parameters, device_.type(), ranks_);
  const auto memory = device_memory(device_);
  title(concat("Memory of ", device_.str(), ", predicted", of_ranks()));
  row("weights", bytes(plan.weights));
  row("gradients", bytes(plan.gradients));
  row("optimizer", bytes(plan.optimizer));
  row("average of the weights", bytes(plan.average));
  row("activations",
      concat(bytes(plan.activations), " (", patches_per_pass(config_.training, ranks_),
             " patches a pass, ", config_.training.precision, ")"));
  row("together", concat(bytes(plan.total()), " of ", bytes(memory.all), ", ", bytes(memory.free),
                         " of them free; workspaces of libraries come on top"));

  title(concat("Memory of the host, predicted", of_ranks()));
  const auto all_cases =
      case_bytes_ * static_cast<std::int64_t>(split_.train.size() + split_.validation.size());
  if (config_.data.cache.empty()) {
    const auto limit = static_cast<std::int64_t>(config_.data.memory_gb * std::pow(2.0, 30) /
                                                 static_cast<double>(ranks_));
    row("cases", concat(bytes(std::min(all_cases, limit)), " (all: about ", bytes(all_cases),
                        "; data.memory_gb allows ", bytes(limit), ")"));
  } else {
    row("cases", concat("mapped, about ", bytes(all_cases), " of the system's file cache"));
  }
  row("batches", concat(bytes(batches_in_memory() * batch_bytes()), " (", batches_in_memory(),
                        " batches of ", bytes(batch_bytes()), ")"));
}

// Of one batch, by all workers together. What a loader has ready when it is asked for the first
// time took time, too: counted from its start to so many batches that this evens out.
double DryRun::seconds_of_loading(data::PatchSource& patches) {
  const auto count = 2 * batches_in_memory();
  const Stopwatch time;
  data::BatchLoader loader(patches, loader_options(config_.training.workers), 0, count);
  std::int64_t done = 0;
  while (done < count && (done == 0 || time.seconds() < kTimedSeconds)) {
    loader.next();
    ++done;
  }
  return time.seconds() / static_cast<double>(done);
}

double DryRun::seconds_of_step(data::PatchSource& patches) {
  const auto ranks = single_rank();
  TrainingStep step(model_, config_, *ranks);
  data::BatchLoader loader(patches, loader_options(/*workers=*/0), 0, kTimedSteps + 1);
  double seconds = 0, total = 0;
  std::int64_t timed = 0;
  for (std::int64_t i = 0; i <= kTimedSteps && total < kTimedSeconds; ++i) {
    const auto& batch = loader.next();
    const Stopwatch time;
    const auto [images, labels] = to_device(batch, device_);
    step.run(images, labels, config_.optimizer.learning_rate);
    total += time.seconds();
    if (i == 0) continue;  // the warm-up
    seconds += time.seconds();
    ++timed;
  }
  // A machine so slow that the warm-up has used up the time.
  return timed == 0 ? total : seconds / static_cast<double>(timed);
}

// Of one validation: one window, as often as the windows of the first case, as often as cases of a
// rank.
double DryRun::seconds_of_validation() {
  const auto all = static_cast<std::int64_t>(split_.validation.size());
  const auto limit = config_.validation.max_cases;
  const auto cases = ((limit > 0 ? std::min(limit, all) : all) + ranks_ - 1) / ranks_;
  const auto window = config_.patch_size();
  const auto windows = window_count(cases_->get(0)->size, window, config_.validation.overlap);
  const Predictor predictor({model_}, config_,
                            {.device = device_.str(), .precision = config_.training.precision});
  const auto input = torch::zeros({1, config_.model.in_channels, window[0], window[1], window[2]});
  const auto run = [&] { predictor.segment_window(input); };
  run();
  const Stopwatch time;
  run();
  return time.seconds() * static_cast<double>(windows) * static_cast<double>(cases);
}

void DryRun::show_times() {
  model_->to(device_);
  data::PatchSource patches(*cases_, patch_options(config_));
  const double loading = seconds_of_loading(patches);
  const double computing = seconds_of_step(patches);
  const double step = std::max(loading, computing);
  const auto total = config_.training.total_iterations();
  const auto epoch = config_.training.iterations_per_epoch;
  const double training = static_cast<double>(total) * step;

  title(concat("Time, measured on ", device_.str(), of_ranks(),
               ranks_ > 1 ? " that runs alone" : ""));
  const auto patch_count = concat(share_, " of ", config_.training.batch_size, " patches");
  row("computing a step", concat(duration(computing), " (", patch_count, ")"));
  row("loading a batch",
      concat(duration(loading), " (", patch_count, ", ", config_.training.workers, " workers)"));
  row("bottleneck", loading > computing
                        ? "data: more training.workers, data.cache or training.augment_on help"
                        : "computing");
  row("most memory taken", bytes(device_memory(device_).most_taken));
  row("an epoch", concat(duration(static_cast<double>(epoch) * step), " (", epoch, " steps, ",
                         epoch * config_.training.batch_size, " patches)"));
  row("all steps", concat(duration(training), " (", total, " steps)"));
  double validating = 0;
  if (config_.validation.every > 0 && !split_.validation.empty()) {
    const double once = seconds_of_validation();
    const auto count = (total + config_.validation.every - 1) / config_.validation.every;
    validating = once * static_cast<double>(count);
    row("a validation", concat(duration(once), " (", count, " in the run)"));
  }
  row("the whole run", duration(training + validating));
}

}  // namespace

void dry_run(const TrainConfig& config, const std::string& device_name, bool every_key,
             std::ostream& out, std::int64_t ranks) {
  const torch::Device device = select_device(device_name);
  check_start(config, device, ranks);
  out << "A dry run: nothing is written.\n";
  DryRun run(config, device, out, ranks);
  try {
    run.show_config(every_key);
    run.show_data();
    run.show_model();
    run.show_times();
  } catch (const std::exception& error) {
    out.flush();
    if (const auto advice = out_of_memory_advice(error, config, device, ranks)) {
      throw Error(*advice);
    }
    throw;
  }
}

}  // namespace segmamba::engine
