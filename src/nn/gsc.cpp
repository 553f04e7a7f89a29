#include "segmamba/nn/gsc.h"

#include "segmamba/nn/norms.h"

namespace segmamba::nn {

GscImpl::GscImpl(std::int64_t channels) {
  const auto convolution = [channels](std::int64_t kernel) {
    return Convolution(torch::nn::Conv3dOptions(channels, channels, kernel).padding(kernel / 2));
  };
  proj = register_module("proj", convolution(3));
  proj2 = register_module("proj2", convolution(3));
  proj3 = register_module("proj3", convolution(1));
  proj4 = register_module("proj4", convolution(1));
}

torch::Tensor GscImpl::forward(const torch::Tensor& input) {
  const auto block = [](Convolution& convolution, const torch::Tensor& x,
                        const torch::Tensor& added = {}) {
    return instance_norm(convolution(x), {.slope = 0, .residual = added});
  };
  auto sum = block(proj2, block(proj, input));
  sum = block(proj3, input, sum);
  return block(proj4, sum, input);
}

}  // namespace segmamba::nn
