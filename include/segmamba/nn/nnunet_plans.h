#pragma once
// Networks as nnU-Net v2 and U-Mamba describe them: in a plans file, and in each checkpoint.

#include <string>

#include "segmamba/core/json.h"
#include "segmamba/nn/archive.h"
#include "segmamba/nn/model_config.h"
#include "segmamba/nn/state_dict.h"

namespace segmamba::nn {

// The network that is trained by `configuration` ("3d_fullres") of the plans, of any version of
// nnU-Net v2. `network` is the name of one here; "": the class that the plans name. Channels in and
// out, which plans do not tell, are those of `tensors`. Throws Error naming `origin`.
ModelConfig config_from_plans(const Json& plans, const std::string& configuration,
                              const std::string& network, const TensorMap& tensors,
                              const std::string& origin);

// The same of a checkpoint, which mostly holds its plans.
bool holds_plans(const Dict& checkpoint);
ModelConfig config_from_nnunet_checkpoint(const Dict& checkpoint, const TensorMap& tensors,
                                          const std::string& origin);

}  // namespace segmamba::nn
