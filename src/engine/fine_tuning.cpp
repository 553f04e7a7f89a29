#include "segmamba/engine/fine_tuning.h"

#include <fnmatch.h>

#include <algorithm>

#include "segmamba/core/error.h"
#include "segmamba/core/text.h"
#include "segmamba/nn/network_difference.h"
#include "segmamba/nn/state_dict.h"
#include "segmamba/nn/upstream_weights.h"

namespace segmamba::engine {

std::vector<std::string> start_from_weights(nn::SegmentationModel& model,
                                            const nn::ModelConfig& config) {
  const auto file = nn::read_state_dict(config.init_from);
  const bool is_known = nn::is_of_network(file.config, config);
  auto adapted = nn::adapt_state_dict(config, file.tensors, is_known);
  const auto enlarged = nn::enlarge_kernels(config, model, adapted.tensors);
  const auto report = nn::load_matching(model, adapted.tensors);
  if (report.loaded.empty()) {
    throw Error(concat("model.init_from: ", config.init_from, ": none of its ", file.tensors.size(),
                       " tensors has a name and a shape of ", config.name,
                       "; is it of another network?"));
  }
  auto lines = file.notes;
  lines.insert(lines.end(), adapted.notes.begin(), adapted.notes.end());
  lines.insert(lines.end(), enlarged.begin(), enlarged.end());
  const auto outcome = nn::describe(report);
  lines.insert(lines.end(), outcome.begin(), outcome.end());
  if (const auto warning = nn::warning_of_few(report); !warning.empty()) lines.push_back(warning);
  if (const auto difference = nn::network_difference(file.config, config); !difference.empty()) {
    lines.push_back(difference);
  }
  for (auto& line : lines) line = concat("model.init_from: ", line);
  return lines;
}

std::size_t freeze(nn::SegmentationModel& model, const std::vector<std::string>& patterns) {
  auto parameters = model.named_parameters();
  std::size_t frozen = 0;
  for (const auto& pattern : patterns) {
    bool matches = false;
    for (auto& item : parameters) {
      if (::fnmatch(pattern.c_str(), item.key().c_str(), 0) != 0) continue;
      matches = true;
      frozen += item.value().requires_grad() ? 1 : 0;
      item.value().set_requires_grad(false);
    }
    if (!matches) {
      std::vector<std::string> names;
      for (const auto& item : parameters) names.push_back(item.key());
      const auto guess = nearest(pattern, names);
      throw Error(concat("model.freeze: no parameter is named ", pattern,
                         guess.empty() ? "" : concat("; did you mean ", guess, "?"),
                         guess.empty() ? ";" : "", " segmamba-model info --state lists them"));
    }
  }
  const auto is_trained = [](const auto& item) { return item.value().requires_grad(); };
  if (std::none_of(parameters.begin(), parameters.end(), is_trained)) {
    throw Error("model.freeze leaves no parameter to train");
  }
  return frozen;
}

}  // namespace segmamba::engine
