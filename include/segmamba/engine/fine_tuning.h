#pragma once
// Starting from weights that are there, and training a part of them.

#include <string>
#include <vector>

#include "segmamba/nn/model.h"

namespace segmamba::engine {

// Copies what fits of the weights in config.init_from, of this framework or of the network's
// original, into the model; returns what became of them, a line each, and in what the network that
// the file says it is of differs. Throws Error where the file cannot be read, or nothing in it
// fits.
std::vector<std::string> start_from_weights(nn::SegmentationModel& model,
                                            const nn::ModelConfig& config);

// Parameters whose names match a pattern (* is any text, ? any letter, [ab] one of these) are no
// longer trained; returns how many. Throws Error naming a pattern that matches none,
// and where none is left to train.
std::size_t freeze(nn::SegmentationModel& model, const std::vector<std::string>& patterns);

}  // namespace segmamba::engine
