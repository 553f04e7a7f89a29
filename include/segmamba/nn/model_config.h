#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "segmamba/core/config.h"

namespace segmamba::nn {

// Section `model` of a config. Keys that a model does not use are ignored by it.
struct ModelConfig {
  std::string name = "segmamba";
  std::string encoder = "tom";
  std::int64_t in_channels = 4;
  std::int64_t out_channels = 4;
  std::vector<std::int64_t> dims = {48, 96, 192, 384};
  std::vector<std::int64_t> depths = {2, 2, 2, 2};
  std::int64_t hidden_size = 768;

  void visit(ConfigVisitor& visitor);
};

}  // namespace segmamba::nn
