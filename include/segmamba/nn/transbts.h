#pragma once

#include <vector>

#include "segmamba/nn/convolution.h"
#include "segmamba/nn/model.h"

namespace segmamba::nn {

// TransBTS (arXiv 2103.04430; Rubics-Xuan/TransBTS at 7dcfc31, class BTS), b = base, E = 32 b,
// GN group norm, BN batch norm, all convolutions with bias:
//   encoder block: x + conv2(relu(GN(conv1(relu(GN x))))), 3^3 taps
//   s_1 = block(channel dropout(conv x)), b channels; s_2, s_3: a convolution of stride 2 and two
//   blocks each, 2b and 4b channels; s_4: likewise with four blocks, 8b
//   t = conv_x(relu(BN s_4)), E channels at 1/8 of the resolution; tokens t + position_embeddings
//       go through `layers` transformer layers: x + drop(attention(LN x)), then x + mlp(LN x)
//   y_4 = Enblock8_2(Enblock8_1 t)
//   y_{i-1} = DeBlock{i}(DeUp{i}(y_i, s_{i-1})), i = 4, 3, 2, where
//       DeUp(y, s) = conv3([s, up(conv1 y)]), a block: relu(BN(conv2(relu(BN(conv1 x))))) + x
//   logits = endconv y_1
// Unlike the original, whose last step is a softmax, the network gives logits. The norm over the
// transformer's output (pre_head_ln) and linear_encoding are parameters that the original holds and
// whose results it never uses: they are not trained here. The parts that can be recomputed are
// encoder1 .. encoder4, embedding, transformer{i}, bottleneck, and decoder4 .. decoder2.
class TransBtsImpl : public SegmentationModel {
 public:
  // Throws Error naming the config key that does not fit.
  explicit TransBtsImpl(const ModelConfig& config);
  static InputSizes input_sizes(const ModelConfig& config);
  std::vector<std::string> parts() const override;

 protected:
  Tensors compute(torch::Tensor input, bool deep) override;

 private:
  std::vector<torch::nn::Sequential> encoders_;
  torch::nn::Sequential embedding_;
  torch::Tensor position_embeddings_;               // [1, N, E]
  std::vector<torch::nn::Sequential> transformer_;  // over tokens [B, N, E]
  torch::nn::Sequential bottleneck_;
  std::vector<torch::nn::AnyModule> ups_;        // DeUp4 .. DeUp2
  std::vector<torch::nn::Sequential> decoders_;  // DeBlock4 .. DeBlock2
  Convolution endconv_{nullptr};
  double dropout_;
};
TORCH_MODULE(TransBts);

}  // namespace segmamba::nn
