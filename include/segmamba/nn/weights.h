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

// Throws Error on anything that is not a well-formed safetensors file (header over 16 MB,
// overlapping or out-of-range data, unknown types), naming the file and the tensor.
// Format: https://github.com/huggingface/safetensors#format
TensorFile read_safetensors(const std::filesystem::path& path);
// Atomic.
void write_safetensors(const std::filesystem::path& path, const TensorFile& file);

// Names as in Python's state_dict(): parameters and buffers. The tensors share the module's memory.
std::map<std::string, torch::Tensor> state_dict(const torch::nn::Module& module);
// The weights of a model, by state-dict name: from safetensors, or from a .pt file that holds a
// state dict itself or under the key `model` (or `state_dict`). Of a checkpoint of segmamba-train
// that has averaged weights, those. Where weights stand among other tensors as "param.NAME" only
// those are taken; "module.", which data-parallel training puts before every name, is removed.
std::map<std::string, torch::Tensor> read_weights(const std::filesystem::path& path);
// Copies `tensors` into the module. Throws Error listing missing and unexpected names and
// mismatched shapes (the first few, and how many); the module is then unchanged.
void load_state_dict(torch::nn::Module& module,
                     const std::map<std::string, torch::Tensor>& tensors);

}  // namespace segmamba::nn
