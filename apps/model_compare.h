#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace segmamba::apps {

struct CompareOptions {
  std::vector<std::string> configs, models;
  std::string size = "128", precision = "fp32", device = "auto";
  std::int64_t in_channels = 4, out_channels = 4;
  bool training = false;
};

// Prints a line for each network: parameters, multiply-adds, and what a pass takes, each network in
// a process of its own.
void compare(const CompareOptions& options);

}  // namespace segmamba::apps
