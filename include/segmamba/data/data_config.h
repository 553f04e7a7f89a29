#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "segmamba/core/config.h"
#include "segmamba/data/dataset.h"

namespace segmamba::data {

// Section `data` of a config.
struct DataConfig : DatasetConfig {
  // What the model's outputs mean where they are no classes: sets of classes that may overlap.
  std::vector<std::string> regions;
  std::string
      cache;  // a folder that segmamba-data prepare made; empty: cases are prepared in memory
  std::string split;
  std::int64_t fold = -1;
  std::int64_t split_seed = 0;
  std::vector<std::int64_t> patch_size = {128, 128, 128};  // [D, H, W]
  double memory_gb = 8;
  std::int64_t max_bad_cases = 3;

  void visit(ConfigVisitor& visitor);
};

}  // namespace segmamba::data
