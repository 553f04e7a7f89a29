#pragma once

#include <torch/torch.h>

#include <vector>

namespace segmamba::nn {

// A ModuleList of typed modules: children "0", "1", ... in the state dict.
template <class Module>
torch::nn::ModuleList module_list(const std::vector<Module>& modules) {
  torch::nn::ModuleList list;
  for (const auto& module : modules) list->push_back(module);
  return list;
}

}  // namespace segmamba::nn
