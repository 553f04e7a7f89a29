#pragma once
// Weights may fit a network that makes something else of them: what their file says of it.

#include <string>

#include "segmamba/nn/model_config.h"

namespace segmamba::nn {

// Whether a file whose config is this one (StateDictFile::config) is of the network `config.name`,
// with whatever options.
bool is_of_network(const std::string& config_of_file, const ModelConfig& config);

// "the file's network has merging: legacy (here merging)", "" where it has nothing of the kind.
// Ways to write one network down are no difference, nor are channels and classes, and what training
// alone depends on.
std::string network_difference(const std::string& config_of_file, const ModelConfig& config);

}  // namespace segmamba::nn
