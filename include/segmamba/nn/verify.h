#pragma once
// Holds a network to numbers of its original: what it makes of an input, and the gradients.

#include <torch/torch.h>

#include <map>
#include <string>
#include <vector>

#include "segmamba/nn/weights.h"

namespace segmamba::nn {

struct Deviation {
  std::string name;     // of the output or parameter
  double relative = 0;  // of the largest logit, or the norm of the gradient
  double allowed = 0;   // the largest relative deviation that passes
  bool passes() const { return relative <= allowed; }
};

struct Verification {
  std::string model;                            // as the file names it
  std::map<std::string, torch::Tensor> logits;  // under the file's names, "golden/logits"
  std::vector<Deviation> outputs;
  std::vector<Deviation> gradient_norms, gradient_dots;  // a parameter each, and "input"
  std::vector<std::string> notes;  // where more was allowed than the format asks for, for people
  bool passes() const;
};

// A file in the format of the golden files: weights under the original's names, golden/input,
// golden/logits (or .0, .1, ...: deep supervision, finest first), factors golden/r.* of the loss
// sum(logits * R) and, for that loss, golden/grad_norm and golden/grad_dot (sum of g_i cos(0.7 i))
// of metadata `parameters` and golden/grad_input. Metadata: `model`, `config` (the arguments of the
// original's constructor, JSON), float32_max_abs_error. Names of weights may be those of any
// release that import takes. Builds the network and runs it in `type`, float64 or float32.
//
// Allowed are, in float64, 1e-6 of the largest logit and 1e-6 max(norm of the gradient, 1e-6 of the
// largest norm), but 1e-9 of the largest norm where the original's is below 1e-9: a true zero, as
// of a bias right before an instance norm. In float32, 20 times the error that the file says
// float32 has (where it says nothing: 1e-3 of the largest logit) and 5e-2 max(norm, 1e-3 of the
// largest), or, where rounding took a number over the kink of a ReLU, what the gradient jumps by in
// float64 when weights and input move by 5e-7 of themselves; `notes` tells both. Throws Error,
// naming `origin`, where the file lacks something, or its weights do not fit the network.
Verification verify(const TensorFile& golden, const std::string& origin, torch::ScalarType type);

}  // namespace segmamba::nn
