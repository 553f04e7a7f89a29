#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "segmamba/nn/model.h"
#include "segmamba/nn/nnunet_blocks.h"

namespace segmamba::nn {

// The U-Net that nnU-Net's and U-Mamba's networks are, S stages:
//   x_s = stage s of x_{s-1}; d_{S-1} = x_{S-1}
//   d_s = blocks of [up d_{s+1}, x_s], `up` by the strides of stage s + 1
//   logits = 1^3 convolution of d_0; deep supervision: of each d_s below S - 1, finest first
// A network says what its stages, `up` and blocks are. Sizes: multiples of the product of the
// strides. The parts that can be recomputed are those of the encoder and decoder{i}, from the
// bottom up.
class UnetImpl : public SegmentationModel {
 public:
  std::vector<std::string> parts() const override;
  std::size_t deep_output_count() const override { return deep_ ? decoder_.size() : 1; }

 protected:
  UnetImpl(const ModelConfig& config, InputSizes sizes);

  struct Part {
    std::string name;
    TensorFunction run;  // one tensor in
  };
  struct DecoderOptions {
    const char* ups;  // what the list of these is called
    std::function<UnetUp(std::int64_t below, std::int64_t channels, const Axes& stride, bool bias)>
        up;
    std::function<UnetBlocks(std::int64_t count, const ConvUnitOptions& first)> blocks;
    const char* blocks_name;  // of a list within its stage; "": the stage is the list
  };
  static Part block_part(std::string name, UnetBlocks blocks);

  // Registers `decoder`, all of its heads included: without deep supervision, only the last is used
  // and can be trained.
  void make_decoder(const ModelConfig& config, const UnetPlan& plan, const DecoderOptions& options);
  Tensors compute(torch::Tensor input, bool deep) override;

  std::vector<std::vector<Part>> encoder_;  // what makes each x_s, one after the other

 private:
  struct DecoderStage {
    TensorFunction run;  // of d_{s+1} and x_s
    Convolution head;
  };
  std::vector<DecoderStage> decoder_;  // from the bottom up
  bool deep_;
};

// nnU-Net (MIC-DKFZ/dynamic-network-architectures at d35f85c, PlainConvUNet): each stage of encoder
// and decoder is a list of ConvUnits, `up` a transposed convolution. Parts: stage{s}.
class NnUnetImpl : public UnetImpl {
 public:
  // Throws Error naming the config key that does not fit.
  explicit NnUnetImpl(const ModelConfig& config);
  static InputSizes input_sizes(const ModelConfig& config);
};
TORCH_MODULE(NnUnet);

// nnU-Net with a residual encoder (the same source, ResidualEncoderUNet): a ConvUnit as the stem,
// of stem_channels, then stages of ResidualUnits; the decoder is nnU-Net's. Parts: stem, stage{s}.
class NnUnetResEncImpl : public UnetImpl {
 public:
  // Throws Error naming the config key that does not fit.
  explicit NnUnetResEncImpl(const ModelConfig& config);
  static InputSizes input_sizes(const ModelConfig& config);
};
TORCH_MODULE(NnUnetResEnc);

}  // namespace segmamba::nn
