#pragma once
// What segmamba-model's command lines and config files ask for. All throw Error, UsageError where a
// command line is at fault.

#include <torch/torch.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "segmamba/core/config.h"
#include "segmamba/nn/model_config.h"
#include "segmamba/nn/state_dict.h"

namespace segmamba::apps {

// "96" or "128x128x96" (DxHxW); a side has at most 4096 voxels.
std::vector<std::int64_t> parse_size(const std::string& text);
// fp32, bf16 or fp16.
torch::ScalarType parse_precision(const std::string& name);
// float32 or float64.
torch::ScalarType parse_dtype(const std::string& name);

// The section `model` of a config of any program. A network that is made for inputs of one size is
// made for data.patch_size where its own key says nothing.
nn::ModelConfig read_model_config(const ConfigDocument& document);
// What a weights file says of its network; where it says nothing, an error that asks for `options`.
ConfigDocument config_inside(const nn::StateDictFile& file, const std::filesystem::path& path,
                             const std::string& options);

// Throws where the file to write is one that is read, which it would replace; `input_name` is "the
// file of --from".
void check_output_is_no_input(const std::filesystem::path& output,
                              const std::filesystem::path& input, const std::string& input_name);

}  // namespace segmamba::apps
