#pragma once

#include <string>

#include "segmamba/nn/model.h"
#include "segmamba/nn/unetr_blocks.h"
#include "segmamba/nn/window_attention.h"

namespace segmamba::nn {

// The channels of 2^3 neighbours side by side, in the order that model.merging names.
// [B, D, H, W, C] -> [B, D/2, H/2, W/2, 8 C].
torch::Tensor gather_neighbours(const torch::Tensor& volume, const std::string& merging);

// SwinUNETR (arXiv 2201.01266) and, as `swin_unetr_v2`, SwinUNETR-V2 (MICCAI 2023;
// Project-MONAI/MONAI at 7af4921, networks/nets/swin_unetr.py), F = feature_size:
//   x_0 = conv 2^3 of stride 2, F channels; with patch_norm, LN of that
//   x_i = merge(depths[i] blocks of attention in windows, x_{i-1}), i = 1 .. 4, F 2^i channels,
//         every other block in shifted windows; in V2 after a ResidualBlock of x_{i-1}
//   h_i = LN x_i without parameters (normalize), or x_i
//   e_1 = basic(image), e_2 = basic(h_0), e_3 = basic(h_1), e_4 = basic(h_2), e_5 = basic(h_4)
//   d_5 = up(e_5, h_3); d_4 = up(d_5, e_4); ...; d_1 = up(d_2, e_1); logits = conv 1^3 d_1
// `merge` is LN, then a matrix, of gather_neighbours(). An axis no longer than the window gets a
// window of its length and no shift. Sizes: multiples of 32, above 32^3. The parts that can be
// recomputed are stage1 .. stage4, encoder1 .. encoder4, encoder10 (e_5) and decoder5 .. decoder1.
// State dicts that others publish leave out `relative_position_index` or not; self-supervised
// weights call the layers of an MLP fc1 and fc2.
class SwinUnetrImpl : public SegmentationModel {
 public:
  // Throws Error naming the config key that does not fit.
  explicit SwinUnetrImpl(const ModelConfig& config);
  static InputSizes input_sizes(const ModelConfig& config);
  std::vector<std::string> parts() const override;

 protected:
  Tensors compute(torch::Tensor input, bool deep) override;

 private:
  struct Stage {
    UnetrBasicBlock convolutions{nullptr};  // V2
    std::vector<WindowBlock> blocks;
    LayerNorm norm{nullptr};
    torch::nn::Linear reduction{nullptr};
  };
  Stage make_stage(const SwinUnetrOptions& options, std::size_t i, const std::vector<double>& rates,
                   torch::nn::Module& encoder, bool has_convolutions) const;
  WindowGrid grid(const torch::Tensor& volume, bool shifted) const;
  torch::Tensor stage(std::size_t i, torch::Tensor volume);
  torch::Tensor merge(const Stage& stage, const torch::Tensor& volume) const;
  torch::Tensor hidden(const torch::Tensor& volume, torch::MemoryFormat format) const;

  SwinUnetrOptions options_;
  Convolution patch_embed_{nullptr};
  LayerNorm patch_norm_{nullptr};  // or none
  std::vector<Stage> stages_;
  std::vector<UnetrBasicBlock> encoders_;  // of the image and h_0, h_1, h_2, h_4
  std::vector<UnetrUpBlock> decoders_;     // decoder1 .. decoder5
  UnetrOutBlock out_{nullptr};
};
TORCH_MODULE(SwinUnetr);

}  // namespace segmamba::nn
