#include "segmamba/engine/fine_tuning.h"

#include <fnmatch.h>

#include <map>
#include <set>

#include "segmamba/core/config.h"
#include "segmamba/core/error.h"
#include "segmamba/core/text.h"
#include "segmamba/nn/state_dict.h"
#include "segmamba/nn/upstream_weights.h"

namespace segmamba::engine {
namespace {

// Key and value of each line of a config.
std::map<std::string, std::string> keys_of(const nn::ModelConfig& config) {
  std::map<std::string, std::string> keys;
  for (const auto& line : split(config_to_yaml(config), '\n')) {
    const auto colon = line.find(": ");
    if (colon != std::string::npos) keys[line.substr(0, colon)] = line.substr(colon + 2);
  }
  return keys;
}

// Weights may fit a network that makes something else of them. Where their file says what they were
// trained as, "merging: legacy (here merging)".
std::vector<std::string> differences(const std::string& config_of_file,
                                     const nn::ModelConfig& config) {
  if (config_of_file.empty()) return {};
  nn::ModelConfig other;
  ConfigDocument::from_text(config_of_file, config.init_from).section("model").read(other);
  const auto own = keys_of(config), given = keys_of(other);
  static const std::set<std::string> of_training = {"in_channels", "out_channels",
                                                    "deep_supervision", "init_from", "freeze"};
  std::vector<std::string> list;
  for (const auto& [key, value] : given) {
    if (of_training.contains(key) || key.find("drop") != std::string::npos) continue;
    const auto found = own.find(key);
    if (found == own.end() || found->second == value) continue;
    list.push_back(concat(key, ": ", value, " (here ", found->second, ")"));
  }
  return list;
}

}  // namespace

std::vector<std::string> start_from_weights(nn::SegmentationModel& model,
                                            const nn::ModelConfig& config) {
  const auto file = nn::read_state_dict(config.init_from);
  auto adapted = nn::adapt_state_dict(config, file.tensors, /*is_known=*/!file.config.empty());
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
  if (const auto list = differences(file.config, config); !list.empty()) {
    lines.push_back("the file's network has " + join(list, ", "));
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
  return frozen;
}

}  // namespace segmamba::engine
