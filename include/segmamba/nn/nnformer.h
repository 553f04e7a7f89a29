#pragma once

#include "segmamba/nn/convolution.h"
#include "segmamba/nn/model.h"
#include "segmamba/nn/window_attention.h"

namespace segmamba::nn {

// nnFormer (arXiv 2109.03201; 282857341/nnFormer at d48aaeb, network_architecture/
// nnFormer_tumor.py), E = embedding_dim, channels last, LN with parameters:
//   x_0 = LN(conv(LN gelu(conv_2(LN gelu(conv(LN gelu(conv_2 image))))))), 3^3 taps, conv_2 of
//         stride 2
//   encoder, i = 0 .. 3:
//     y_i = depths[i] blocks of attention in windows of x_i, every other one shifted
//     s_i = LN y_i, E 2^i channels
//     x_{i+1} = conv_2(LN(gelu y_i))
//   decoder, i = 2, 1, 0, from z_3 = s_3:
//     u = up(LN z_{i+1})
//     v = u + s_i
//     v += attention of queries LN u with keys and values of LN s_i (the same LN, no projection of
//          the queries)
//     v += MLP(LN v)
//     z_i = shifted blocks of v
//   logits = up_4(z_0) and, with deep supervision, up_4(z_1) and up_4(z_2)
// The decoder has the windows and depths of the encoder's stage i, and the heads of its stage i
// + 1. Windows are cubes: where the shortest axis has no more voxels than one, it is the window,
// and nothing is shifted. Their index of relative positions lets many offsets share an entry of the
// table of biases, as the original's does.
// Sizes: model.crop_size alone, by which the tables are made. The parts that can be recomputed are
// embedding, encoder0 .. encoder3 and decoder2 .. decoder0.
class NnFormerImpl : public SegmentationModel {
 public:
  // Throws Error naming the config key that does not fit.
  explicit NnFormerImpl(const ModelConfig& config);
  static InputSizes input_sizes(const ModelConfig& config);
  std::vector<std::string> parts() const override;
  std::size_t deep_output_count() const override { return heads_.size(); }
  bool trains_coarsest_output() const override { return true; }

 protected:
  Tensors compute(torch::Tensor input, bool deep) override;

 private:
  // What one stage of the encoder, or the decoder's at the same resolution, is made of.
  struct Stage {
    std::vector<WindowBlock> blocks;
    // Before the encoder's later stages, or the decoder's.
    LayerNorm resampling_norm{nullptr};
    Convolution down{nullptr};
    UpConvolution up{nullptr};
    LayerNorm skip_norm{nullptr};  // of the encoder
  };
  struct ConvolutionPair {
    Convolution conv1{nullptr}, conv2{nullptr};
    LayerNorm norm1{nullptr}, norm2{nullptr};  // norm2 may be missing
  };

  std::shared_ptr<torch::nn::Module> make_embedding(std::int64_t in_channels);
  void make_encoder(std::int64_t in_channels);
  void make_decoder();
  std::vector<WindowBlock> make_blocks(std::size_t stage, bool decodes) const;
  WindowGrid grid(std::size_t stage, bool shifted) const;
  torch::Tensor embed(torch::Tensor image);
  torch::Tensor encode(std::size_t i, torch::Tensor volume);
  torch::Tensor decode(std::size_t i, const torch::Tensor& volume, const torch::Tensor& skip);

  NnFormerOptions options_;
  std::array<std::int64_t, 3> size_;  // of x_0
  std::array<ConvolutionPair, 2> embedding_;
  LayerNorm embedding_norm_{nullptr};
  std::vector<Stage> encoder_, decoder_;
  std::vector<UpConvolution> heads_;
};
TORCH_MODULE(NnFormer);

}  // namespace segmamba::nn
