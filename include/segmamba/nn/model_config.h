#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "segmamba/core/config.h"

namespace segmamba::nn {

// Section `model` of a config. Keys that a model does not use are ignored by it.
struct ModelConfig {
  std::string name = "segmamba";
  // `tom`: the published code (GSC and tri-orientated Mamba); `bidirectional`: its first release;
  // `paper`: Eq. 1 of arXiv 2401.13560.
  std::string encoder = "tom";
  std::int64_t in_channels = 4;
  std::int64_t out_channels = 4;
  // Channels and Mamba layers of each stage. The stages halve the resolution, so an input's sizes
  // must be multiples of 2^stages.
  std::vector<std::int64_t> dims = {48, 96, 192, 384};
  std::vector<std::int64_t> depths = {2, 2, 2, 2};
  std::int64_t hidden_size = 768;
  bool deep_supervision = false;

  // What Eq. 1 of the paper leaves open; read by the encoder `paper` only. The defaults are those
  // of the code's first release.
  std::int64_t mlp_ratio = 4;
  std::vector<std::string> directions = {"forward", "reverse"};
  std::string downsample_norm = "layer";

  void visit(ConfigVisitor& visitor);
};

// The names that make_model takes, sorted.
std::vector<std::string> model_names();

}  // namespace segmamba::nn
