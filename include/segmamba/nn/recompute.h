#pragma once

#include <torch/torch.h>

#include <functional>
#include <memory>
#include <utility>
#include <vector>

namespace segmamba::nn {

// A piece of a network. The tensors are its own: it may free each after its last use.
using TensorFunction = std::function<torch::Tensor(std::vector<torch::Tensor> inputs)>;

// function(inputs), without keeping what the backward pass needs: that pass runs `function` again,
// from `inputs`, which are kept (Chen et al., "Training Deep Nets with Sublinear Memory Cost",
// arXiv 1604.06174). Gradients are those of a plain call, of the inputs and of every parameter that
// `function` uses. The second run sees the random numbers (CPU and the inputs' GPU) and the
// autocast state of the first. Every tensor that needs a gradient must be an input or a leaf, such
// as a parameter. Just function(inputs) where gradients are off. A second derivative throws Error.
torch::Tensor recompute(const TensorFunction& function, std::vector<torch::Tensor> inputs);

// function(inputs) for convolutions and linear layers to take, cheap beside them and made of what
// other parts keep anyway: gradient functions make it again instead of keeping it, too.
class FormedAgain {
 public:
  // The inputs are kept; gradients pass through the first call alone.
  FormedAgain(TensorFunction function, std::vector<torch::Tensor> inputs);

  // The result of the first call: once, so that it can be freed.
  torch::Tensor take() { return std::move(first_); }
  // `output` is what a convolution or linear layer made of it, whose gradient function forgets its
  // input from now on. Without gradients, and after other operators, nothing happens.
  void forget_input_of(const torch::Tensor& output);
  // function({first}), `first` being the result of the first call, for which it is formed again.
  FormedAgain then(torch::Tensor first, const TensorFunction& function);
  // Forms it again: once for each call of this. Empty without gradients.
  std::function<torch::Tensor()> form();

 private:
  class Again;
  FormedAgain() = default;
  class Hooks;
  torch::Tensor first_;
  std::shared_ptr<Again> again_;
};

// Whether this thread is in a second run of recompute(): what a module counts or averages beside
// its output has been counted already.
bool is_recomputing();

}  // namespace segmamba::nn
