#include "segmamba/nn/encoder.h"

#include "segmamba/core/error.h"
#include "segmamba/nn/bidirectional_encoder.h"
#include "segmamba/nn/paper_encoder.h"
#include "segmamba/nn/tom_encoder.h"

namespace segmamba::nn {

std::shared_ptr<Encoder> make_encoder(const ModelConfig& config) {
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

}  // namespace segmamba::nn
