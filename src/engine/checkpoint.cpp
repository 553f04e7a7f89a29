#include "segmamba/engine/checkpoint.h"

#include <cmath>

#include "segmamba/core/error.h"
#include "segmamba/core/text.h"
#include "segmamba/nn/archive.h"
#include "segmamba/nn/weights.h"

namespace segmamba::engine {
namespace {

// Names how Random::keyed numbers are derived; a change of it changes what a resumed run draws.
constexpr const char* kRandomScheme = "philox4x32-10 keyed by (seed, iteration, sample)";

constexpr std::size_t kMaxConfigBytes = 256 << 10;  // YAML takes many times its text in memory

std::map<std::string, torch::Tensor> on_cpu(const std::map<std::string, torch::Tensor>& tensors) {
  std::map<std::string, torch::Tensor> copies;
  for (const auto& [name, tensor] : tensors) copies[name] = tensor.detach().cpu();
  return copies;
}

nn::Dict best_dict(const TrainingState& training) {
  nn::List values, iterations;
  for (const auto& best : training.best) {
    values.emplace_back(best.value);
    iterations.emplace_back(best.iteration);
  }
  nn::Dict dict;
  dict.set("metric", training.best_metric);
  dict.set("values", values);
  dict.set("iterations", iterations);
  dict.set("since", training.validations_since_best);
  return dict;
}

void read_best(const nn::Dict& dict, TrainingState& training) {
  training.best_metric = dict.at("metric").text();
  training.validations_since_best = dict.at("since").integer();
  const auto& values = dict.at("values").list();
  const auto& iterations = dict.at("iterations").list();
  if (values.size() != iterations.size()) throw Error("best.values and best.iterations disagree");
  for (std::size_t i = 0; i < values.size(); ++i) {
    training.best.push_back({values[i].real(), iterations[i].integer()});
  }
}

TrainingState training_state(const nn::Dict& content) {
  TrainingState state;
  state.iteration = content.at("iteration").integer();
  state.validated_iteration = content.at("validated_iteration").integer();
  state.patch_validated_iteration = content.at("patch_validated_iteration").integer();
  read_best(content.at("best").dict(), state);
  const nn::Dict& skipped = content.at("skipped").dict();
  state.skipped_steps = skipped.at("steps").integer();
  state.skipped_in_a_row = skipped.at("in_a_row").integer();
  const nn::Dict& rng = content.at("rng").dict();
  state.seed = rng.at("seed").integer();
  state.step.optimizer = nn::tensor_map(content.at("optimizer").dict());
  const nn::Dict& scaler = content.at("scaler").dict();
  state.step.scaler = {scaler.at("scale").real(), scaler.at("good_steps").integer()};
  const nn::Dict& average = content.at("average").dict();
  state.step.average = nn::tensor_map(average.at("weights").dict());
  state.step.average_updates = average.at("updates").integer();
  return state;
}

// All but the hash.
nn::Dict content_of(const Checkpoint& checkpoint) {
  const TrainingState& training = checkpoint.training;
  nn::Dict average, skipped, scaler, rng, content;
  average.set("weights", nn::tensor_dict(on_cpu(training.step.average)));
  average.set("updates", training.step.average_updates);
  skipped.set("steps", training.skipped_steps);
  skipped.set("in_a_row", training.skipped_in_a_row);
  scaler.set("scale", training.step.scaler.scale);
  scaler.set("good_steps", training.step.scaler.good_steps);
  rng.set("seed", training.seed);
  rng.set("scheme", kRandomScheme);
  content.set("model", nn::tensor_dict(on_cpu(checkpoint.model)));
  content.set("average", average);
  content.set("config", checkpoint.config);
  content.set("optimizer", nn::tensor_dict(on_cpu(training.step.optimizer)));
  content.set("iteration", training.iteration);
  content.set("validated_iteration", training.validated_iteration);
  content.set("patch_validated_iteration", training.patch_validated_iteration);
  content.set("best", best_dict(training));
  content.set("skipped", skipped);
  content.set("scaler", scaler);
  content.set("rng", rng);
  content.set("version", checkpoint.version);
  return content;
}

// What the hash does not tell: that the numbers are those of a run. Training counts on with them.
void check_numbers(const TrainingState& state) {
  const auto check_count = [](std::int64_t value, const char* name) {
    constexpr std::int64_t kMost = std::int64_t{1} << 50;
    if (value < 0 || value > kMost) throw Error(concat("no run counts so far: ", name, " ", value));
  };
  check_count(state.iteration, "iteration");
  check_count(state.validated_iteration, "validated_iteration");
  check_count(state.patch_validated_iteration, "patch_validated_iteration");
  for (const auto& best : state.best) check_count(best.iteration, "best.iterations");
  check_count(state.validations_since_best, "best.since");
  check_count(state.skipped_steps, "skipped.steps");
  check_count(state.skipped_in_a_row, "skipped.in_a_row");
  check_count(state.step.scaler.good_steps, "scaler.good_steps");
  check_count(state.step.average_updates, "average.updates");
  if (!std::isfinite(state.step.scaler.scale) || state.step.scaler.scale < 0) {
    throw Error(concat("no run has a scaler.scale of ", format_double(state.step.scaler.scale)));
  }
  const auto check_kind = [](const std::map<std::string, torch::Tensor>& tensors,
                             const char* section) {
    for (const auto& [name, tensor] : tensors) {
      if (torch::isFloatingType(tensor.scalar_type())) continue;
      throw Error(concat(section, ".", name, " holds no floating-point numbers"));
    }
  };
  check_kind(state.step.optimizer, "optimizer");
  check_kind(state.step.average, "average.weights");
}

void check_hash(const nn::Dict& content) {
  nn::Dict hashed;
  for (const auto& [key, value] : content.items()) {
    if (key != "hash") hashed.set(key, value);
  }
  if (nn::content_hash(hashed) != content.at("hash").text()) {
    throw Error("damaged: its content is not what was written");
  }
}

}  // namespace

std::map<std::string, torch::Tensor> Checkpoint::weights() const {
  auto weights = model;
  for (const auto& [name, tensor] : training.step.average) weights[name] = tensor;
  return weights;
}

void save_checkpoint(const std::filesystem::path& path, const Checkpoint& checkpoint) {
  auto content = content_of(checkpoint);
  content.set("hash", nn::content_hash(content));
  nn::write_archive(path, content);
}

Checkpoint load_checkpoint(const std::filesystem::path& path) {
  if (std::filesystem::is_directory(path)) {
    throw Error(concat(path.string(), " is a folder: give a checkpoint, of a run ",
                       (path / "checkpoints/best.pt").string()));
  }
  Checkpoint checkpoint;
  try {
    const nn::Value value = nn::read_archive(path);
    const nn::Dict& content = value.dict();
    check_hash(content);
    checkpoint = {nn::tensor_map(content.at("model").dict()), content.at("config").text(),
                  training_state(content), content.at("version").text()};
    check_numbers(checkpoint.training);
    if (content.at("rng").dict().at("scheme").text() == kRandomScheme) return checkpoint;
  } catch (const ReadError&) {
    throw;  // the file may be whole
  } catch (const Error& error) {
    std::string what = error.what();
    const auto place = path.string() + ": ";  // which is said already
    if (starts_with(what, place)) what.erase(0, place.size());
    throw DamagedCheckpoint(
        concat(path.string(), " is no whole checkpoint of segmamba-train: ", what));
  }
  throw Error(concat(path.string(), " is of segmamba-train ", checkpoint.version,
                     ", whose random numbers were drawn in another way"));
}

TrainConfig checkpoint_config(const Checkpoint& checkpoint, const std::filesystem::path& path) {
  if (checkpoint.config.size() > kMaxConfigBytes) {
    throw Error(concat(path.string(), ": the config inside takes ",
                       format_bytes(checkpoint.config.size()), ", more than the ",
                       format_bytes(kMaxConfigBytes), " that one may have"));
  }
  TrainConfig config;
  ConfigDocument::from_text(checkpoint.config, path.string() + " (config inside)").read(config);
  return config;
}

std::shared_ptr<nn::SegmentationModel> checkpoint_model(const Checkpoint& checkpoint,
                                                        const std::filesystem::path& path,
                                                        Weights weights) {
  const auto config = checkpoint_config(checkpoint, path).model;
  try {
    return nn::make_model(config,
                          weights == Weights::kTrained ? checkpoint.model : checkpoint.weights());
  } catch (const Error& error) {
    throw Error(concat(path.string(), ": ", error.what()));
  }
}

}  // namespace segmamba::engine
