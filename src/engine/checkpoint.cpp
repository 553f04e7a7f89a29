#include "segmamba/engine/checkpoint.h"

#include "segmamba/core/error.h"
#include "segmamba/core/text.h"
#include "segmamba/nn/archive.h"
#include "segmamba/nn/weights.h"

namespace segmamba::engine {
namespace {

// Names how Random::keyed numbers are derived; a change of it changes what a resumed run draws.
constexpr const char* kRandomScheme = "philox4x32-10 keyed by (seed, iteration, sample)";

TrainingState training_state(const nn::Dict& content) {
  TrainingState state;
  state.iteration = content.at("iteration").integer();
  state.validated_iteration = content.at("validated_iteration").integer();
  const nn::Dict& best = content.at("best").dict();
  state.best_dice = best.at("dice").real();
  state.best_iteration = best.at("iteration").integer();
  const nn::Dict& rng = content.at("rng").dict();
  state.seed = rng.at("seed").integer();
  if (rng.at("scheme").text() != kRandomScheme) {
    throw Error(concat("its random numbers are of another scheme: ", rng.at("scheme").text()));
  }
  state.optimizer = nn::tensor_map(content.at("optimizer").dict());
  return state;
}

}  // namespace

void save_checkpoint(const std::filesystem::path& path, const Checkpoint& checkpoint) {
  const TrainingState& training = checkpoint.training;
  nn::Dict best, rng, content;
  best.set("dice", training.best_dice);
  best.set("iteration", training.best_iteration);
  rng.set("seed", training.seed);
  rng.set("scheme", kRandomScheme);
  content.set("model", nn::tensor_dict(checkpoint.model));
  content.set("config", checkpoint.config);
  content.set("optimizer", nn::tensor_dict(training.optimizer));
  content.set("iteration", training.iteration);
  content.set("validated_iteration", training.validated_iteration);
  content.set("best", best);
  content.set("rng", rng);
  content.set("version", checkpoint.version);
  nn::write_archive(path, content);
}

Checkpoint load_checkpoint(const std::filesystem::path& path) {
  const nn::Value value = nn::read_archive(path);
  try {
    const nn::Dict& content = value.dict();
    return {nn::tensor_map(content.at("model").dict()), content.at("config").text(),
            training_state(content), content.at("version").text()};
  } catch (const Error& error) {
    throw Error(concat(path.string(), " is not a checkpoint of segmamba-train: ", error.what()));
  }
}

TrainConfig checkpoint_config(const Checkpoint& checkpoint, const std::filesystem::path& path) {
  TrainConfig config;
  ConfigDocument::from_text(checkpoint.config, path.string() + " (config inside)").read(config);
  return config;
}

std::shared_ptr<nn::SegmentationModel> checkpoint_model(const Checkpoint& checkpoint,
                                                        const std::filesystem::path& path) {
  auto model = nn::make_model(checkpoint_config(checkpoint, path).model);
  try {
    nn::load_state_dict(*model, checkpoint.model);
  } catch (const Error& error) {
    throw Error(concat(path.string(), ": ", error.what()));
  }
  return model;
}

}  // namespace segmamba::engine
