#pragma once

#include "segmamba/nn/convolution.h"
#include "segmamba/nn/model.h"

namespace segmamba::nn {

// SegResNet (arXiv 1810.11654 without its auto-encoder; Project-MONAI/MONAI at 7af4921,
// networks/nets/segresnet.py), f = init_filters, n = number of blocks_down, GN = group norm:
//   residual block: x + conv2(relu(GN(conv1(relu(GN x))))), 3^3 taps, no biases
//   x_0 = blocks_down[0] residual blocks of convInit x
//   x_i = blocks_down[i] residual blocks of a convolution of stride 2 of x_{i-1}, f 2^i channels
//   d_{n-1} = x_{n-1}
//   d_{i-1} = blocks_up residual blocks of x_{i-1} + up(conv 1^3 d_i), `up` being trilinear or
//             (upsample_mode deconv) a transposed convolution
//   logits = conv_final(relu(GN d_0)), 1^3 taps
// Sizes: multiples of 2^(n-1). The parts that can be recomputed are down{i} and up{i}.
class SegResNetImpl : public SegmentationModel {
 public:
  // Throws Error naming the config key that does not fit.
  explicit SegResNetImpl(const ModelConfig& config);
  static InputSizes input_sizes(const ModelConfig& config);
  std::vector<std::string> parts() const override;

 protected:
  Tensors compute(torch::Tensor input, bool deep) override;

 private:
  Convolution initial_{nullptr};
  std::vector<torch::nn::Sequential> down_layers_, up_samples_, up_layers_;
  torch::nn::Sequential final_;
  double dropout_;
};
TORCH_MODULE(SegResNet);

}  // namespace segmamba::nn
