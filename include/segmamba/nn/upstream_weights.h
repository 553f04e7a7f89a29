#pragma once
// The names that the originals' weight files have, and ours.

#include <torch/torch.h>

#include <string>
#include <vector>

#include "segmamba/nn/model_config.h"
#include "segmamba/nn/state_dict.h"

namespace segmamba::nn {

struct AdaptedState {
  TensorMap tensors;
  std::vector<std::string> notes;  // what was renamed, reshaped or left out, for people
};

// A state dict of the original of `config.name` (its releases and training programs differ) under
// our names: those of our own files stay as they are. Throws Error where two names of one tensor
// hold different values. `is_known`: their file says with which options they were trained, so that
// notes on what no file of an original tells can be left out.
AdaptedState adapt_state_dict(const ModelConfig& config, TensorMap tensors, bool is_known = false);

// Weights of a network with smaller kernels become those of one with larger kernels, as MedNeXt's
// UpKern has it: interpolated trilinearly. Elsewhere it does nothing. Returns notes for people.
std::vector<std::string> enlarge_kernels(const ModelConfig& config, const torch::nn::Module& model,
                                         TensorMap& tensors);

// How convolutions of the image start where the file's take another number of channels, C.
enum class FirstLayer {
  kRandom,  // as the network starts
  kRepeat,  // channel i from the file's channel i modulo C, divided among its copies
  kMean,    // each channel from the mean over the file's, times C / in_channels
};
// Both keep the sum over the channels, which is what alike channels give. Where the image has fewer
// than C, kRepeat leaves out the file's last ones and multiplies the others by C / in_channels, as
// if those left out were like their mean.
std::vector<std::string> fit_first_layer(const ModelConfig& config, const torch::nn::Module& model,
                                         FirstLayer how, TensorMap& tensors);

// The way back: what the original's load_state_dict(strict=True) takes. The networks of nnU-Net's
// family get every tensor under each of its names.
TensorMap upstream_state_dict(const ModelConfig& config, TensorMap tensors);

// How to ask for a network that is made for the inputs `tensors` were trained with, where the
// report has what depends on their size as not fitting, or, without one, where the config has no
// size: "--set model.img_size=[96,96,96]", with the size as far as it can be told from them. ""
// where there is nothing of the kind.
std::string input_size_hint(const ModelConfig& config, const TensorMap& tensors,
                            const LoadReport* report);

// The key under which the original's training program keeps the weights in its checkpoints, ""
// where a file is the state dict itself.
std::string upstream_place(const std::string& network);

}  // namespace segmamba::nn
