#include "segmamba/nn/norms.h"

namespace segmamba::nn {

torch::Tensor instance_norm(const torch::Tensor& input) {
  auto sizes = input.sizes().vec();
  sizes[1] *= sizes[0];
  sizes[0] = 1;
  // As torch::instance_norm, but with a result that autograd does not take for a view: an in-place
  // activation on a view costs a copy of the gradient. The input must be contiguous: through
  // _unsafe_view, LibTorch 2.11 gives a channels-last one wrong gradients.
  const auto output = torch::batch_norm(input.contiguous().view(sizes), /*weight=*/{}, /*bias=*/{},
                                        /*running_mean=*/{}, /*running_var=*/{},
                                        /*training=*/true, /*momentum=*/0.1, /*eps=*/1e-5,
                                        torch::globalContext().userEnabledCuDNN());
  return torch::_unsafe_view(output, input.sizes());
}

ChannelLayerNormImpl::ChannelLayerNormImpl(std::int64_t channels) {
  weight = register_parameter("weight", torch::empty({channels}));
  bias = register_parameter("bias", torch::empty({channels}));
  reset_parameters();
}

torch::Tensor ChannelLayerNormImpl::forward(const torch::Tensor& input) {
  return torch::layer_norm(input.movedim(1, -1), weight.sizes(), weight, bias, /*eps=*/1e-6)
      .movedim(-1, 1);
}

void ChannelLayerNormImpl::reset_parameters() {
  torch::nn::init::ones_(weight);
  torch::nn::init::zeros_(bias);
}

void ChannelLayerNormImpl::pretty_print(std::ostream& stream) const {
  stream << "ChannelLayerNorm(" << weight.size(0) << ")";
}

}  // namespace segmamba::nn
