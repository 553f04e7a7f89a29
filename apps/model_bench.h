#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace segmamba::apps {

struct BenchOptions {
  std::filesystem::path config;
  std::vector<std::string> set;
  std::string size = "128", precision = "fp32", device = "auto";
  std::int64_t batch = 1;
  bool training = false;
  bool tune = false;  // of a forward pass; a step does as training.tune_convolutions says
};

// Prints where the time of one inference window, or of one training step, goes: by parts of the
// network and by kinds of work, beside what the device's memory and arithmetic give at their best.
void bench(const BenchOptions& options);

// The most that the process, or its allocator of a GPU, has held so far.
std::uint64_t peak_memory(const torch::Device& device);

}  // namespace segmamba::apps
