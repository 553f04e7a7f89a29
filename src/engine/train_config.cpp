#include "segmamba/engine/train_config.h"

#include <algorithm>
#include <map>

#include "segmamba/core/error.h"
#include "segmamba/core/text.h"
#include "segmamba/data/regions.h"

namespace segmamba::engine {
namespace {

class ValueLister final : public ConfigVisitor {
 public:
  explicit ValueLister(std::vector<std::pair<std::string, std::string>>& values)
      : values_(values) {}

  void value(const ConfigKey& key, bool& value) override { add(key, value ? "true" : "false"); }
  void value(const ConfigKey& key, std::int64_t& value) override { add(key, concat(value)); }
  void value(const ConfigKey& key, double& value) override { add(key, format_double(value)); }
  void value(const ConfigKey& key, std::string& value) override { add(key, value); }
  void value(const ConfigKey& key, std::vector<std::int64_t>& value) override {
    add(key, concat("[", join(value, ", "), "]"));
  }
  void value(const ConfigKey& key, std::vector<double>& value) override {
    std::vector<std::string> items;
    items.reserve(value.size());
    for (const double item : value) items.push_back(format_double(item));
    add(key, concat("[", join(items, ", "), "]"));
  }
  void value(const ConfigKey& key, std::vector<std::string>& value) override {
    add(key, concat("[", join(value, ", "), "]"));
  }
  void value(const ConfigKey& key, std::vector<std::vector<std::int64_t>>& value) override {
    std::vector<std::string> items;
    items.reserve(value.size());
    for (const auto& item : value) items.push_back(concat("[", join(item, ", "), "]"));
    add(key, concat("[", join(items, ", "), "]"));
  }

 protected:
  bool begin_section(std::string_view name, std::string_view) override {
    sections_.emplace_back(name);
    return true;
  }
  void end_section() override { sections_.pop_back(); }

 private:
  void add(const ConfigKey& key, std::string value) {
    std::string path;
    for (const auto& section : sections_) path += section + ".";
    values_.emplace_back(path + std::string(key.name), std::move(value));
  }

  std::vector<std::pair<std::string, std::string>>& values_;
  std::vector<std::string> sections_;
};

bool decides_the_weights(const std::string& key) {
  static const std::vector<std::string> kFree = {"data.root",
                                                 "data.layout",
                                                 "data.cache",
                                                 "data.split",
                                                 "data.split_seed",
                                                 "data.fold",
                                                 "data.memory_gb",
                                                 "data.max_bad_cases",
                                                 "model.init_from",
                                                 "training.recompute",
                                                 "training.graph",
                                                 "training.tune_convolutions",
                                                 "training.max_skipped_steps",
                                                 "training.early_stop",
                                                 "training.workers",
                                                 "training.threads",
                                                 "training.checkpoint_every"};
  return !starts_with(key, "validation.") && !starts_with(key, "inference.") &&
         !starts_with(key, "postprocess.") &&
         std::find(kFree.begin(), kFree.end(), key) == kFree.end();
}

bool is_zero(double value) { return value == 0; }

// The numbers of iterations and of patches: beyond what anyone trains, and their products fit into
// 64 bits.
constexpr double kMostEpochs = 1e6, kMostIterations = kMostEpochs * kMostEpochs,
                 kMostPatches = 65536;

void check(const LossConfig& loss, const nn::ModelConfig& model, bool of_regions) {
  const auto& weights = loss.class_weights;
  if (!weights.empty()) {
    if (std::ssize(weights) != model.out_channels) {
      throw Error(concat("loss.class_weights lists ", weights.size(),
                         " numbers, but the model has ", model.out_channels,
                         " outputs (model.out_channels)"));
    }
    const bool without_first =
        starts_with(loss.name, "dice") && !of_regions && !loss.include_background;
    if (std::all_of(weights.begin() + (without_first ? 1 : 0), weights.end(), is_zero)) {
      throw Error(concat("loss.class_weights are all 0",
                         without_first ? " but the background's, which Dice leaves out" : "",
                         ": nothing would be learnt"));
    }
  }
  const auto& levels = loss.deep_supervision_weights;
  if (!levels.empty() && !model.deep_supervision) {
    throw Error("loss.deep_supervision_weights needs model.deep_supervision: true");
  }
  if (!levels.empty() && std::all_of(levels.begin(), levels.end(), is_zero)) {
    throw Error("loss.deep_supervision_weights are all 0: nothing would be learnt");
  }
}

}  // namespace

void LossConfig::visit(ConfigVisitor& v) {
  v.value({.name = "name",
           .help = "Cross-entropy alone (as published), soft Dice, focal, or their sums. Of "
                   "data.regions each is binary, after a sigmoid",
           .choices = {"cross_entropy", "dice", "dice_cross_entropy", "focal", "dice_focal"}},
          name);
  v.value({.name = "cross_entropy_weight", .help = "Factor of cross-entropy", .min = 0},
          cross_entropy_weight);
  v.value({.name = "focal_weight", .help = "Factor of the focal loss", .min = 0}, focal_weight);
  v.value({.name = "dice_weight", .help = "Factor of soft Dice", .min = 0}, dice_weight);
  v.value({.name = "include_background", .help = "Soft Dice: count class 0 too"},
          include_background);
  v.value({.name = "batch_dice",
           .help = "Soft Dice: over the whole batch, instead of the mean over its patches"},
          batch_dice);
  v.value({.name = "smooth", .help = "Soft Dice: added to numerator and denominator", .min = 0},
          smooth);
  v.value({.name = "focal_gamma", .help = "Focal: power of the miss 1 - p", .min = 0}, focal_gamma);
  v.value({.name = "class_weights",
           .help = "One number an output of the model: its weight in every term; []: all alike",
           .min = 0},
          class_weights);
  v.value({.name = "deep_supervision_weights",
           .help = "With model.deep_supervision: one number an output, from full resolution down; "
                   "[]: each half of the one before, the coarsest 0, of sum 1 (as nnU-Net)",
           .min = 0},
          deep_supervision_weights);
}

void OptimizerConfig::visit(ConfigVisitor& v) {
  v.value({.name = "name", .help = "Optimizer", .choices = {"sgd", "adamw"}}, name);
  v.value({.name = "learning_rate", .help = "Initial learning rate", .min = 0}, learning_rate);
  v.value({.name = "weight_decay",
           .help = "L2 for sgd, decoupled for adamw; never on A_log and D of Mamba layers",
           .min = 0},
          weight_decay);
  v.value({.name = "decay_norms_and_biases",
           .help = "Weight decay on norms and biases as well (as published)"},
          decay_norms_and_biases);
  v.value({.name = "momentum", .help = "sgd: momentum", .min = 0, .max = 1}, momentum);
  v.value({.name = "nesterov", .help = "sgd: Nesterov momentum"}, nesterov);
  v.value({.name = "betas",
           .help = "adamw: decay of the running mean and square",
           .min = 0,
           .max = 1,
           .min_items = 2,
           .max_items = 2},
          betas);
  v.value({.name = "eps", .help = "adamw: added to the denominator", .min = 0}, eps);
}

void ScheduleConfig::visit(ConfigVisitor& v) {
  v.value({.name = "name",
           .help = "From optimizer.learning_rate to final_learning_rate: polynomial, with "
                   "(1 - i / iterations)^power at iteration i; cosine, with "
                   "(1 + cos(pi i / iterations)) / 2; constant stays",
           .choices = {"polynomial", "cosine", "constant"}},
          name);
  v.value({.name = "power", .help = "Power of the polynomial", .min = 0}, power);
  v.value({.name = "final_learning_rate", .help = "Learning rate at the end", .min = 0},
          final_learning_rate);
  v.value({.name = "warmup_iterations",
           .help = "The rate rises linearly from 0 over the first so many iterations",
           .min = 0},
          warmup_iterations);
}

void TrainingConfig::visit(ConfigVisitor& v) {
  v.value({.name = "epochs",
           .help = "Epochs, of iterations_per_epoch each",
           .min = 0,
           .max = kMostEpochs},
          epochs);
  v.value({.name = "iterations_per_epoch",
           .help = "Optimizer steps an epoch",
           .min = 1,
           .max = kMostEpochs},
          iterations_per_epoch);
  v.value({.name = "iterations",
           .help = "Optimizer steps of the run; 0: epochs * iterations_per_epoch",
           .min = 0,
           .max = kMostIterations},
          iterations);
  v.value({.name = "batch_size",
           .help = "Patches an update, of all GPUs together: a run makes the same updates whatever "
                   "their number",
           .min = 1,
           .max = kMostPatches},
          batch_size);
  v.value({.name = "micro_batch_size",
           .help = "Patches a forward and backward pass: a GPU's share of the batch is done in "
                   "passes of so many, their gradients added. 0: in one",
           .min = 0,
           .max = kMostPatches},
          micro_batch_size);
  v.value({.name = "precision",
           .help = "fp32; tf32 (products of 10-bit mantissas, on GPUs); bf16 or fp16: mixed "
                   "precision, with weights, scans and losses in fp32, and the loss of fp16 scaled",
           .choices = {"fp32", "tf32", "bf16", "fp16"}},
          precision);
  v.value({.name = "recompute",
           .help = "Parts of the model (segmamba-model info lists them) whose activations are "
                   "computed again in the backward pass instead of kept; [all]: every part"},
          recompute);
  v.value({.name = "graph",
           .help = "On one GPU: forward and backward pass are recorded at the third iteration and "
                   "started as a whole from then on (a CUDA graph). Saves time where kernels are "
                   "small, and keeps the memory of a step between steps"},
          graph);
  v.value(
      {.name = "tune_convolutions",
       .help = "On GPUs: the first iterations try cuDNN's algorithms for each convolution, which "
               "takes half a minute, and keep the fastest"},
      tune_convolutions);
  v.value({.name = "gradient_clip_norm",
           .help = "Gradients are scaled down to this total L2 norm; 0: never",
           .min = 0},
          gradient_clip_norm);
  v.value({.name = "ema_decay",
           .help = "Decay of a running average of the weights, which is then what is validated and "
                   "used; 0: none. 0.999 averages about 1000 steps",
           .min = 0,
           .max = 0.999999},
          ema_decay);
  v.value({.name = "max_skipped_steps",
           .help = "Steps in a row whose loss or gradients may be infinite or nan: each is skipped "
                   "and named, one more ends the run",
           .min = 0},
          max_skipped_steps);
  v.value({.name = "early_stop",
           .help = "Ends the run after so many validations without a better one; 0: never",
           .min = 0},
          early_stop);
  v.value({.name = "seed", .help = "Seed of weights, patches and augmentation", .min = 0}, seed);
  v.value({.name = "workers",
           .help = "Threads that prepare patches; the patches do not depend on it. 0: none",
           .min = 0,
           .max = 256},
          workers);
  v.value(
      {.name = "augment_on",
       .help = "Where patches are augmented: cpu, by the workers; device, where the model is, and "
               "the workers cut only. The same patches up to rounding",
       .choices = {"cpu", "device"}},
      augment_on);
  v.value({.name = "threads",
           .help = "Threads that compute; 0: one a processor. On the CPU results are "
                   "bit-identical for an equal number only",
           .min = 0,
           .max = 1024},
          threads);
  v.value(
      {.name = "checkpoint_every", .help = "Iterations between two writes of last.pt", .min = 1},
      checkpoint_every);
}

void ValidationConfig::visit(ConfigVisitor& v) {
  v.value({.name = "every", .help = "Iterations between two validations; 0: never", .min = 0},
          every);
  v.value({.name = "max_cases", .help = "Validate on the first so many cases; 0: on all", .min = 0},
          max_cases);
  v.value({.name = "overlap",
           .help = "Overlap of the sliding windows (validation mirrors nothing)",
           .min = 0,
           .max = 0.95},
          overlap);
  v.value({.name = "hd95", .help = "Score HD95 beside Dice"}, hd95);
  v.value({.name = "best_metric",
           .help = "What makes a checkpoint the best: dice_mean or hd95_mean, or of one region, as "
                   "dice_wt"},
          best_metric);
  v.value({.name = "keep_best",
           .help = "So many of the best checkpoints are kept; the best one is best.pt",
           .min = 1,
           .max = 1000},
          keep_best);
  v.value({.name = "patches_every",
           .help = "Iterations between two cheap validations on patches; 0: never",
           .min = 0},
          patches_every);
  v.value({.name = "patches",
           .help = "Patches of a cheap validation, always the same",
           .min = 1,
           .max = kMostPatches},
          patches);
}

void InferenceConfig::visit(ConfigVisitor& v) {
  v.value({.name = "overlap",
           .help = "Overlap of neighbouring windows, as a share of the window",
           .min = 0,
           .max = 0.95},
          overlap);
  v.value({.name = "mode",
           .help = "Weight of a window's voxels: gaussian around its centre, or constant",
           .choices = {"gaussian", "constant"}},
          mode);
  v.value({.name = "sigma_scale",
           .help = "Standard deviation of the Gaussian, as a share of the window",
           .min = 0.01,
           .max = 10},
          sigma_scale);
  v.value(
      {.name = "sw_batch_size", .help = "Windows a forward pass", .min = 1, .max = kMostPatches},
      sw_batch_size);
  v.value({.name = "mirror_axes",
           .help = "Axes mirrored for test-time augmentation, 0 1 2 for D H W; []: none",
           .min = 0,
           .max = 2,
           .max_items = 3},
          mirror_axes);
  v.value({.name = "average",
           .help = "What is averaged over mirrored and overlapping windows",
           .choices = {"logits", "probabilities"}},
          average);
}

void TrainConfig::visit(ConfigVisitor& v) {
  v.section("model", "The network", model);
  v.section("data", "Cases and patches", data);
  v.section("preprocess", "From a case's files to the voxels that the model sees", preprocess);
  v.section("sampling", "Where training patches lie", sampling);
  v.section("augment", "Random changes of training patches", augment);
  v.section("loss", "What is minimised", loss);
  v.section("optimizer", "How it is minimised", optimizer);
  v.section("schedule", "The learning rate over the run", schedule);
  v.section("training", "Length and means of the run", training);
  v.section("validation", "Scoring whole volumes while training", validation);
  v.section("inference", "How segmamba-infer segments whole volumes", inference);
  v.section("postprocess", "What segmamba-infer changes in label maps", postprocess);
}

void complete(TrainConfig& config) {
  auto* size = nn::fixed_input_size(config.model);
  if (size != nullptr && size->empty()) *size = config.data.patch_size;
}

void check(const TrainConfig& config) {
  if (config.model.in_channels != static_cast<std::int64_t>(config.data.channels.size())) {
    throw Error(concat("model.in_channels is ", config.model.in_channels,
                       ", but data.channels lists ", config.data.channels.size(), " (",
                       join(config.data.channels, ", "), ")"));
  }
  const auto regions = data::parse_regions(config.data.regions, config.data.classes);
  const auto& outputs = regions.empty() ? config.data.classes : config.data.regions;
  if (config.model.out_channels != std::ssize(outputs)) {
    throw Error(concat("model.out_channels is ", config.model.out_channels, ", but data.",
                       regions.empty() ? "classes" : "regions", " lists ", outputs.size(), " (",
                       join(outputs, ", "), ")"));
  }
  check(config.loss, config.model, /*of_regions=*/!regions.empty());
  check(config.preprocess, config.data.channels.size());
  foreground_classes(config.sampling, config.data.classes);
  check(config.augment);
  auto axes = config.inference.mirror_axes;
  std::sort(axes.begin(), axes.end());
  if (std::adjacent_find(axes.begin(), axes.end()) != axes.end()) {
    throw Error("inference.mirror_axes names an axis twice");
  }
  post::make_rules(config.postprocess, config.data.classes, config.data.regions);
  if (config.training.early_stop > 0 && config.validation.every == 0) {
    throw Error(
        "training.early_stop counts validations, but validation.every is 0: there are none");
  }
  if (config.schedule.warmup_iterations >= config.training.total_iterations() &&
      config.schedule.warmup_iterations > 0) {
    throw Error(concat("schedule.warmup_iterations is ", config.schedule.warmup_iterations,
                       ": the run has only ", config.training.total_iterations(), " iterations"));
  }
  if (config.training.total_iterations() < 1) {
    throw Error("nothing to train: set training.iterations, or training.epochs");
  }
}

std::vector<std::pair<std::string, std::string>> config_values(const TrainConfig& config) {
  std::vector<std::pair<std::string, std::string>> values;
  ValueLister lister(values);
  TrainConfig copy = config;
  copy.visit(lister);
  return values;
}

std::vector<std::string> differences_that_matter(const TrainConfig& now,
                                                 const TrainConfig& before) {
  // By name: the keys of the section `model` are those of its network.
  const auto values = config_values(now);
  const auto old = config_values(before);
  const std::map<std::string, std::string> before_by_key(old.begin(), old.end());
  std::vector<std::string> differences;
  for (const auto& [key, value] : values) {
    const auto found = before_by_key.find(key);
    if (found != before_by_key.end() && value != found->second && decides_the_weights(key)) {
      differences.push_back(concat(key, " is ", value, ", was ", found->second));
    }
  }
  return differences;
}

}  // namespace segmamba::engine
