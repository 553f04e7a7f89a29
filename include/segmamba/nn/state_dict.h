#pragma once
// State dicts as they come: out of a file of any form, and into a network as far as they fit.

#include <torch/torch.h>

#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace segmamba::nn {

using TensorMap = std::map<std::string, torch::Tensor>;

struct StateDictFile {
  TensorMap tensors;
  // Where they stood in the file, as "network_weights" or "checkpoint.model"; "": the file is the
  // dict.
  std::string place;
  // The config that a checkpoint of segmamba-train or a file of segmamba-model import brings along,
  // as YAML with a section `model`; "": none that can be read, for the reason in `config_problem`
  // where there is one.
  std::string config, config_problem;
  std::vector<std::string> notes;  // what was done on the way, for people
};

// Reads safetensors and files of torch.save, told apart by their content, and finds the dict of
// tensors in them: the file itself, or under the keys that training programs use, however nested
// (`place`: there and nowhere else). Prefixes that all names have ("module.", "_orig_mod.", "net.")
// are removed. Of a checkpoint of segmamba-train that has averaged weights, those; of a golden
// file (all of whose names are those of golden files), the weights. Throws ReadError where the
// file cannot be read, and Error where there is no such dict, or several without a way to choose.
StateDictFile read_state_dict(const std::filesystem::path& path, const std::string& place = "");
// Its tensors alone: the weights of a model, by state-dict name.
TensorMap read_weights(const std::filesystem::path& path);

// Removes the prefixes that all names have and that wrappers of networks put there ("module.",
// "_orig_mod.", "net.", ...); returns them, the outermost first.
std::vector<std::string> strip_prefixes(TensorMap& tensors);

// A config as YAML whose section `model` has these keys.
std::string model_section(const std::string& keys);

// What became of each tensor of a file and of a model.
struct LoadReport {
  struct Mismatch {
    std::string name, file, model;  // type and shape on both sides
  };
  std::vector<std::string> loaded;
  std::vector<std::string> filled;   // integer buffers that the file leaves out and the model knows
  std::vector<std::string> missing;  // these keep their initial values
  std::vector<std::string> extra;
  std::vector<Mismatch> mismatched;  // these keep them, too
  // Of those loaded: with a floating-point type other than the model's, and with NaN or infinity.
  std::vector<std::string> converted, non_finite;
  // Floating-point numbers of the model, and how many of them are of tensors loaded.
  std::int64_t numbers = 0, numbers_loaded = 0;

  // Whether file and model hold the same.
  bool is_complete() const { return missing.empty() && extra.empty() && mismatched.empty(); }
};

// Which of `tensors` the module takes: those of its names and shapes. Floating-point numbers of any
// precision go into each other, integers and floating-point numbers do not.
LoadReport match_state_dict(const torch::nn::Module& module, const TensorMap& tensors);
// Copies those into it.
LoadReport load_matching(torch::nn::Module& module, const TensorMap& tensors);
// A warning where less than half of the model's numbers were loaded, "" otherwise.
std::string warning_of_few(const LoadReport& report);
// Lines for people, the first few names of each kind, or all.
std::vector<std::string> describe(const LoadReport& report, bool all_names = false);
// Those of them that tell why the report is not complete.
std::vector<std::string> describe_misfits(const LoadReport& report, bool all_names = false);

}  // namespace segmamba::nn
