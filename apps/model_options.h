#pragma once
// Texts of segmamba-model's command lines. All throw UsageError.

#include <torch/torch.h>

#include <cstdint>
#include <string>
#include <vector>

namespace segmamba::apps {

// "96" or "128x128x96" (DxHxW).
std::vector<std::int64_t> parse_size(const std::string& text);
// fp32, bf16 or fp16.
torch::ScalarType parse_precision(const std::string& name);
// float32 or float64.
torch::ScalarType parse_dtype(const std::string& name);

}  // namespace segmamba::apps
