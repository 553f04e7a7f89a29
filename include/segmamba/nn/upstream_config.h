#pragma once

#include <string>

#include "segmamba/core/json.h"
#include "segmamba/nn/model_config.h"

namespace segmamba::nn {

// The config of the network that an original's constructor would make of `arguments` (a JSON object
// in the original's words, as the golden files have it). `model` is a name of model_names(), or one
// with something after an underscore ("mednext_k5"). Throws Error naming `origin` and the argument
// that is unknown or asks for what the network here does not have.
ModelConfig config_from_upstream(const std::string& model, const Json& arguments,
                                 const std::string& origin);

}  // namespace segmamba::nn
