#pragma once
// The encoders of the U-shape (u_shape.h): a stem and stages, each at half the resolution of the
// one before.

#include <torch/torch.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "segmamba/nn/convolution.h"
#include "segmamba/nn/model_config.h"

namespace segmamba::nn {

class Encoder : public torch::nn::Module {
 public:
  explicit Encoder(std::int64_t stage_count) : stage_count_(stage_count) {}

  // What stage i makes of stage i-1's result (of the input, [B, C, D, H, W], for i = 0): dims[i]
  // channels at 1 / 2^(i+1) of the input's resolution.
  virtual torch::Tensor stage(std::int64_t i, const torch::Tensor& input) = 0;
  // What the decoder gets of stage i's result.
  virtual torch::Tensor output(std::int64_t i, const torch::Tensor& feature) = 0;

  std::int64_t stage_count() const { return stage_count_; }

 private:
  std::int64_t stage_count_;
};

// SegMamba's encoder that config.segmamba.encoder names. Throws Error naming the key that does not
// fit.
std::shared_ptr<Encoder> make_encoder(const ModelConfig& config);

// Strided convolutions, dense: the stem (7^3 taps, padding 3) and the down-sampling before the
// other stages (2^3 taps), both of stride 2. `groups` other than 1 makes it depth-wise.
Convolution stem_convolution(std::int64_t in_channels, std::int64_t out_channels,
                             std::int64_t groups = 1);
Convolution downsample_convolution(std::int64_t in_channels, std::int64_t out_channels);

// What stands before stage i where an instance norm precedes the convolution: the stem for i = 0,
// then "1", the convolution behind the norm.
torch::nn::Sequential downsampling(std::int64_t in_channels, const std::vector<std::int64_t>& dims,
                                   std::size_t stage);
// The same with ChannelLayerNorms: "0", the stem, and "1", a norm behind it, for i = 0, then "0", a
// norm, and "1", the convolution behind it.
torch::nn::Sequential layer_norm_downsampling(std::int64_t in_channels,
                                              const std::vector<std::int64_t>& dims,
                                              std::size_t stage);

}  // namespace segmamba::nn
