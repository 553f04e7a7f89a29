#pragma once

#include <vector>

#include "segmamba/nn/encoder.h"
#include "segmamba/nn/model.h"
#include "segmamba/nn/unetr_blocks.h"

namespace segmamba::nn {

// The U-shape of 3D UX-Net (arXiv 2209.15076) that SegMamba took over: an encoder of n stages with
// f channels each, and a convolutional decoder with skips, h channels at its bottom:
//   s_0 = x; s_i = encoder stage i of s_{i-1}
//   e_0 = encoder1(x) at full resolution; e_i = encoder{i+1}(encoder output i of s_i) with f[i]
//   channels for i < n and h for i = n; d_n = e_n
//   d_{i-1} = decoder{i+1}(d_i, e_{i-1}) for i = n .. 1; logits = out(decoder1(d_0))
// With deep supervision also deep_outs.{i-1}(d_i) at 1/2^i of the resolution for i = 1 .. n-1: an
// output a decoder, as in nnU-Net. These heads are used in training alone.
// Any number of stages >= 1. Sizes: multiples of 2^n, but not 2^n on every axis, which would leave
// the instance norms at the bottom a single voxel. The parts that can be recomputed are stage1 ..
// stage{n} and the blocks, an encoder's output with its block.
class UShapedModel : public SegmentationModel {
 public:
  std::size_t deep_output_count() const override { return 1 + deep_outs.size(); }
  std::vector<std::string> parts() const override;

  std::shared_ptr<Encoder> encoder;
  std::vector<UnetrBasicBlock> encoder_blocks;  // encoder1 .. encoder{n+1}
  std::vector<UnetrUpBlock> decoder_blocks;     // decoder2 .. decoder{n+1}
  UnetrBasicBlock decoder1{nullptr};
  UnetrOutBlock out{nullptr};
  std::vector<UnetrOutBlock> deep_outs;

 protected:
  struct Parts {
    const char* encoder_name;  // in the state dict
    std::shared_ptr<Encoder> encoder;
    std::vector<std::int64_t> widths;  // f, then h
    UnetrBlockOptions blocks = {};
  };
  // Of `config`, the channels in and out and deep_supervision are read.
  UShapedModel(const ModelConfig& config, InputSizes input_sizes, const Parts& parts);

  Tensors compute(torch::Tensor input, bool deep) override;
};

// Channels of the stages and of the bottom, in one list.
std::vector<std::int64_t> u_shape_widths(std::vector<std::int64_t> stages, std::int64_t bottom);

// Sizes that n stages take: the blocks at the bottom norm each instance.
InputSizes u_shape_input_sizes(std::size_t stages);

}  // namespace segmamba::nn
