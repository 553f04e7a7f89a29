#pragma once
// Weight files: safetensors in and out, and loading by name.

#include <torch/torch.h>

#include <filesystem>
#include <map>
#include <string>

namespace segmamba::nn {

struct TensorFile {
  std::map<std::string, torch::Tensor> tensors;
  std::map<std::string, std::string> metadata;
};

// Throws ReadError where the file cannot be read, and Error on anything that is not a well-formed
// safetensors file (header over 4 MB, overlapping or out-of-range data, unknown types, a name
// twice), naming the file and the tensor.
// Format: https://github.com/huggingface/safetensors#format
TensorFile read_safetensors(const std::filesystem::path& path);
// Atomic.
void write_safetensors(const std::filesystem::path& path, const TensorFile& file);

// Names as in Python's state_dict(): parameters and buffers. The tensors share the module's memory.
std::map<std::string, torch::Tensor> state_dict(const torch::nn::Module& module);
// Copies `tensors` into the module. Throws Error listing missing and extra names and those of
// another shape, type or content (the first few, and how many), as match_state_dict()
// (state_dict.h) has them, but integer buffers may not be left out; the module is then unchanged.
void load_state_dict(torch::nn::Module& module,
                     const std::map<std::string, torch::Tensor>& tensors);
// Throws as load_state_dict() and changes nothing. The content of tensors of the meta device is not
// looked at.
void check_state_dict(const torch::nn::Module& module,
                      const std::map<std::string, torch::Tensor>& tensors);

}  // namespace segmamba::nn
