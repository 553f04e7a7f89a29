// Predictors of checkpoints and of files.

#include <torch/torch.h>

#include <algorithm>
#include <utility>

#include "predictor_impl.h"
#include "segmamba/core/error.h"
#include "segmamba/core/text.h"
#include "segmamba/data/preprocess.h"
#include "segmamba/engine/checkpoint.h"

namespace segmamba::engine {
namespace {

namespace fs = std::filesystem;

// Keys that all models of an ensemble must have the same: what goes in, and what comes out.
bool must_agree(const std::string& key) {
  static const std::vector<std::string> kKeys = {"data.channels", "data.classes", "data.regions",
                                                 "data.patch_size"};
  return starts_with(key, "preprocess.") ||
         std::find(kKeys.begin(), kKeys.end(), key) != kKeys.end();
}

void check_agreement(const TrainConfig& first, const fs::path& first_path, const TrainConfig& other,
                     const fs::path& other_path) {
  const auto shared = [](const TrainConfig& config) {
    auto values = config_values(config);
    std::erase_if(values, [](const auto& entry) { return !must_agree(entry.first); });
    return values;
  };
  const auto values = shared(first), others = shared(other);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto& [key, value] = values[i];
    if (value == others[i].second) continue;
    throw Error(concat("the models of an ensemble must agree in ", key, ", which is ", value,
                       " in ", first_path.string(), " and ", others[i].second, " in ",
                       other_path.string()));
  }
}

std::vector<Weights> parse_weights(const std::string& name) {
  if (name == "average") return {Weights::kAverage};
  if (name == "trained") return {Weights::kTrained};
  if (name == "both") return {Weights::kAverage, Weights::kTrained};
  throw Error(concat("weights \"", name, "\" are none of average, trained, both"));
}

}  // namespace

Predictor Predictor::load(const std::vector<fs::path>& checkpoints,
                          const PredictorOptions& options) {
  WindowScores::Models models;
  std::vector<nn::ModelConfig> architectures;
  TrainConfig config;
  for (const auto& path : checkpoints) {
    const auto checkpoint = load_checkpoint(path);
    auto own = checkpoint_config(checkpoint, path);
    architectures.push_back(own.model);
    const auto choice = parse_weights(options.weights);
    if (choice.size() > 1 && checkpoint.training.step.average.empty()) {
      throw Error(concat(path.string(),
                         " has no averaged weights (training.ema_decay was 0): take "
                         "average, which is the trained ones then, instead of both"));
    }
    for (const auto weights : choice) {
      models.push_back(checkpoint_model(checkpoint, path, weights));
    }
    if (architectures.size() == 1) {
      config = std::move(own);
    } else {
      check_agreement(config, checkpoints.front(), own, path);
    }
  }
  if (options.configure) options.configure(config);
  check(config);  // a file may say anything
  for (const auto& model : models) {
    model->eval();
    for (auto& parameter : model->parameters()) parameter.requires_grad_(false);
  }
  return Predictor(
      std::make_shared<Impl>(std::move(models), architectures, config, options, Owner::kPredictor));
}

data::PreparedCase Predictor::prepare_files(
    const std::map<std::string, std::filesystem::path>& images) const {
  std::vector<std::string> files;
  for (const auto& [channel, path] : images) files.push_back(concat(channel, "=", path.string()));
  const auto first = images.find(config().data.channels.front());
  const auto file_name = first == images.end() ? "case" : first->second.filename().string();
  const auto dataset =
      data::dataset_of_files(config().data, file_name.substr(0, file_name.find(".nii")), files);
  return data::prepare_case(data::read_case(dataset, dataset.cases.front()), config().preprocess);
}

}  // namespace segmamba::engine
