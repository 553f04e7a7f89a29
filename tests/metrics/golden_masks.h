#pragma once
// The masks of tests/data/metrics/cases.json, built from their lists of operations.

#include <cstdint>
#include <string>
#include <vector>

#include "segmamba/core/json.h"
#include "segmamba/metrics/mask.h"

namespace segmamba::metrics::testing {

// The bytes of the linear congruential generator of the noise operation.
std::vector<std::uint8_t> lcg_bytes(std::uint32_t seed, std::size_t count);

struct GoldenCase {
  std::string name;
  bool has_labels = false;  // otherwise a binary mask, stored with label 3
  Grid grid;
  std::vector<std::uint8_t> prediction, reference;
  Json expected;
};

// Throws Error where a mask does not have the stated voxel count, sum and CRC-32.
GoldenCase build_case(const Json& item);
const Json& golden_file();

}  // namespace segmamba::metrics::testing
