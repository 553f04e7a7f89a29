#include "segmamba/nn/model.h"

#include <algorithm>
#include <map>
#include <utility>

#include "segmamba/core/error.h"
#include "segmamba/core/text.h"
#include "segmamba/nn/segmamba.h"

namespace segmamba::nn {
namespace {

using Factory = std::shared_ptr<SegmentationModel> (*)(const ModelConfig&);

// Every network of the framework: a new one is one more line.
const std::map<std::string, Factory>& registry() {
  static const std::map<std::string, Factory> factories = {
      {"segmamba",
       [](const ModelConfig& config) -> std::shared_ptr<SegmentationModel> {
         return std::make_shared<SegMambaImpl>(config);
       }},
  };
  return factories;
}

}  // namespace

void SegmentationModel::set_recomputed(const std::vector<std::string>& names) {
  const auto known = parts();
  recomputed_.clear();
  for (const auto& name : names) {
    if (name == "all") {
      recomputed_.insert(known.begin(), known.end());
    } else if (std::find(known.begin(), known.end(), name) != known.end()) {
      recomputed_.insert(name);
    } else {
      const auto guess = nearest(name, known);
      throw Error(concat("training.recompute: the model has no part \"", name, "\"",
                         guess.empty() ? "" : "; did you mean " + guess + "?", " Its parts are ",
                         join(known, ", "), ", or all"));
    }
  }
}

torch::Tensor SegmentationModel::run_part(const std::string& name, const TensorFunction& function,
                                          std::vector<torch::Tensor> inputs) const {
  return recomputed_.contains(name) ? recompute(function, std::move(inputs))
                                    : function(std::move(inputs));
}

std::vector<std::string> model_names() {
  std::vector<std::string> names;
  for (const auto& [name, factory] : registry()) names.push_back(name);
  return names;
}

std::shared_ptr<SegmentationModel> make_model(const ModelConfig& config) {
  const auto found = registry().find(config.name);
  if (found == registry().end()) {
    throw Error(concat("model.name: there is no network \"", config.name, "\"; choose one of ",
                       join(model_names(), ", ")));
  }
  return found->second(config);
}

}  // namespace segmamba::nn
