#include "model_options.h"

#include <algorithm>
#include <cstdlib>

#include "segmamba/core/error.h"
#include "segmamba/core/text.h"

namespace segmamba::apps {
namespace {

// Of the section `data`, what decides the size of networks that are made for one size.
struct PatchSize {
  std::vector<std::int64_t> patch_size;
  void visit(ConfigVisitor& visitor) {
    visitor.value({.name = "patch_size", .help = "Size of the patches", .min = 1}, patch_size);
  }
};

}  // namespace

std::vector<std::int64_t> parse_size(const std::string& text) {
  std::vector<std::int64_t> sizes;
  for (const auto& word : split(text, 'x')) {
    char* end = nullptr;
    sizes.push_back(std::strtoll(word.c_str(), &end, 10));
    if (end == word.c_str() || *end != '\0' || sizes.back() < 1) sizes.clear();
    if (sizes.empty()) break;
  }
  if (sizes.size() == 1) sizes.resize(3, sizes[0]);
  if (sizes.size() != 3) throw UsageError("--size: expected N or DxHxW, got \"" + text + "\"");
  // Far beyond it LibTorch cannot count the bytes of what a network makes of it.
  constexpr std::int64_t kLargest = 4096;
  if (*std::max_element(sizes.begin(), sizes.end()) > kLargest) {
    throw UsageError(
        concat("--size: a side has at most ", kLargest, " voxels, got \"", text, "\""));
  }
  return sizes;
}

torch::ScalarType parse_precision(const std::string& name) {
  if (name == "fp32") return torch::kFloat32;
  if (name == "bf16") return torch::kBFloat16;
  if (name == "fp16") return torch::kHalf;
  throw UsageError("--precision: expected fp32, bf16 or fp16, got \"" + name + "\"");
}

torch::ScalarType parse_dtype(const std::string& name) {
  if (name == "float32") return torch::kFloat32;
  if (name == "float64") return torch::kFloat64;
  throw UsageError("--dtype: expected float32 or float64, got \"" + name + "\"");
}

nn::ModelConfig read_model_config(const ConfigDocument& document) {
  nn::ModelConfig config;
  document.section("model").read(config);
  if (auto* size = nn::fixed_input_size(config);
      size != nullptr && size->empty() && document.has("data")) {
    PatchSize data;
    document.section("data").read_part(data);
    *size = data.patch_size;
  }
  return config;
}

ConfigDocument config_inside(const nn::StateDictFile& file, const std::filesystem::path& path,
                             const std::string& options) {
  if (!file.config_problem.empty()) {
    throw Error(concat(path.string(), ": ", file.config_problem, "; give ", options));
  }
  if (file.config.empty()) {
    throw UsageError(concat(path.string(), " does not say which network it is of: give ", options));
  }
  return ConfigDocument::from_text(file.config, path.string() + " (config inside)");
}

void check_output_is_no_input(const std::filesystem::path& output,
                              const std::filesystem::path& input, const std::string& input_name) {
  std::error_code ignored;  // of what does not exist
  if (!std::filesystem::equivalent(output, input, ignored)) return;
  throw Error(concat("--output ", output.string(), " is ", input_name,
                     ", which it would replace; give another name"));
}

}  // namespace segmamba::apps
