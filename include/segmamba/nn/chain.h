#pragma once

#include <torch/torch.h>

#include <initializer_list>
#include <memory>

namespace segmamba::nn {

// A torch::nn::Sequential that may stand in another one.
class ChainImpl : public torch::nn::SequentialImpl {
 public:
  using SequentialImpl::SequentialImpl;
  torch::Tensor forward(const torch::Tensor& input) { return SequentialImpl::forward(input); }
};

class Chain : public torch::nn::ModuleHolder<ChainImpl> {
 public:
  using torch::nn::ModuleHolder<ChainImpl>::ModuleHolder;
  Chain() : ModuleHolder(std::make_shared<ChainImpl>()) {}
  Chain(std::initializer_list<torch::nn::NamedAnyModule> named)
      : ModuleHolder(std::make_shared<ChainImpl>(named)) {}
};

// MONAI wraps each convolution in a module that calls it `conv`; the state-dict names keep that.
template <class Convolution>
Chain wrapped(const Convolution& convolution) {
  return {{"conv", convolution}};
}

}  // namespace segmamba::nn
