#include "segmamba/nn/encoder.h"

#include "segmamba/core/error.h"
#include "segmamba/core/text.h"
#include "segmamba/nn/bidirectional_encoder.h"
#include "segmamba/nn/norms.h"
#include "segmamba/nn/paper_encoder.h"
#include "segmamba/nn/tom_encoder.h"

namespace segmamba::nn {

std::shared_ptr<Encoder> make_encoder(const ModelConfig& config) {
  if (config.segmamba.dims.size() != config.segmamba.depths.size()) {
    throw Error(concat("model.dims and model.depths need one number a stage each, got ",
                       config.segmamba.dims.size(), " and ", config.segmamba.depths.size()));
  }
  if (config.segmamba.encoder == "tom") return std::make_shared<TomEncoderImpl>(config);
  if (config.segmamba.encoder == "bidirectional")
    return std::make_shared<BidirectionalEncoderImpl>(config);
  if (config.segmamba.encoder == "paper") return std::make_shared<PaperEncoderImpl>(config);
  throw Error("model.encoder: \"" + config.segmamba.encoder +
              "\" is none of tom, bidirectional, paper");
}

Convolution stem_convolution(std::int64_t in_channels, std::int64_t out_channels,
                             std::int64_t groups) {
  return Convolution(
      torch::nn::Conv3dOptions(in_channels, out_channels, 7).stride(2).padding(3).groups(groups));
}

Convolution downsample_convolution(std::int64_t in_channels, std::int64_t out_channels) {
  return Convolution(torch::nn::Conv3dOptions(in_channels, out_channels, 2).stride(2));
}

torch::nn::Sequential downsampling(std::int64_t in_channels, const std::vector<std::int64_t>& dims,
                                   std::size_t stage) {
  torch::nn::Sequential layers;
  if (stage == 0) {
    layers->push_back(stem_convolution(in_channels, dims[0]));
  } else {
    layers->push_back(
        torch::nn::Functional([](const torch::Tensor& x) { return instance_norm(x); }));
    layers->push_back(downsample_convolution(dims[stage - 1], dims[stage]));
  }
  return layers;
}

torch::nn::Sequential layer_norm_downsampling(std::int64_t in_channels,
                                              const std::vector<std::int64_t>& dims,
                                              std::size_t stage) {
  if (stage == 0) {
    return torch::nn::Sequential(stem_convolution(in_channels, dims[0]), ChannelLayerNorm(dims[0]));
  }
  return torch::nn::Sequential(ChannelLayerNorm(dims[stage - 1]),
                               downsample_convolution(dims[stage - 1], dims[stage]));
}

}  // namespace segmamba::nn
