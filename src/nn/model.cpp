#include "segmamba/nn/model.h"

#include <map>

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
