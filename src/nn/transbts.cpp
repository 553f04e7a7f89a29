#include "segmamba/nn/transbts.h"

#include <algorithm>
#include <utility>

#include "config_checks.h"
#include "segmamba/nn/attention.h"
#include "segmamba/nn/chain.h"
#include "segmamba/nn/linear.h"
#include "segmamba/nn/norms.h"
#include "segmamba/nn/pre_activation_block.h"
#include "segmamba/nn/tokens.h"

namespace segmamba::nn {
namespace {

using torch::nn::Conv3dOptions;

Convolution convolution(std::int64_t in_channels, std::int64_t out_channels,
                        std::int64_t kernel = 3, std::int64_t stride = 1) {
  return Convolution(
      Conv3dOptions(in_channels, out_channels, kernel).stride(stride).padding(kernel / 2));
}

// relu(BN(conv2(relu(BN(conv1 x))))), + x where the channels agree.
class DecoderBlockImpl : public torch::nn::Module {
 public:
  DecoderBlockImpl(std::int64_t in_channels, std::int64_t out_channels)
      : residual_(in_channels == out_channels) {
    conv1_ = register_module("conv1", convolution(in_channels, out_channels));
    bn1_ = register_module("bn1", BatchNorm(torch::nn::BatchNormOptions(out_channels)));
    conv2_ = register_module("conv2", convolution(out_channels, out_channels));
    bn2_ = register_module("bn2", BatchNorm(torch::nn::BatchNormOptions(out_channels)));
  }
  torch::Tensor forward(const torch::Tensor& input) {
    const auto output = bn2_(conv2_(bn1_(conv1_(input)).relu_())).relu_();
    return residual_ ? output + input : output;
  }

 private:
  bool residual_;
  Convolution conv1_{nullptr}, conv2_{nullptr};
  BatchNorm bn1_{nullptr}, bn2_{nullptr};
};
TORCH_MODULE(DecoderBlock);

// conv3([skip, up(conv1 x)]), `up` transposed with 2^3 taps and stride 2.
class UpBlockImpl : public torch::nn::Module {
 public:
  UpBlockImpl(std::int64_t in_channels, std::int64_t out_channels) {
    conv1_ = register_module("conv1", convolution(in_channels, out_channels, 1));
    conv2_ = register_module(
        "conv2", UpConvolution(out_channels, out_channels, std::array<std::int64_t, 3>{2, 2, 2},
                               /*bias=*/true));
    conv3_ = register_module("conv3", convolution(2 * out_channels, out_channels, 1));
  }
  torch::Tensor forward(const torch::Tensor& input, const torch::Tensor& skip) {
    return conv3_(torch::cat({skip, conv2_(conv1_(input))}, 1));
  }

 private:
  Convolution conv1_{nullptr}, conv3_{nullptr};
  UpConvolution conv2_{nullptr};
};
TORCH_MODULE(UpBlock);

// The original wraps what follows a norm in a residual module, whose inside it calls fn, and that
// in one that holds the norm; its inside is called fn, too. Registers `norm` and returns the module
// for the rest.
std::shared_ptr<torch::nn::Module> register_inside(torch::nn::Module& residual,
                                                   const LayerNorm& norm) {
  const auto outer = residual.register_module("fn", std::make_shared<torch::nn::Module>());
  outer->register_module("norm", norm);
  return outer->register_module("fn", std::make_shared<torch::nn::Module>());
}

// x + drop(drop(proj(attention(LN x)))). Tokens [B, N, C] -> the same.
class AttentionLayerImpl : public torch::nn::Module {
 public:
  AttentionLayerImpl(std::int64_t channels, std::int64_t heads, double dropout)
      : heads_(heads), dropout_(dropout), norm_(channels) {
    const auto inside = register_inside(*this, norm_);
    qkv_ = inside->register_module("qkv", make_linear(channels, 3 * channels, /*bias=*/false));
    proj_ = inside->register_module("proj", make_linear(channels, channels));
  }
  torch::Tensor forward(const torch::Tensor& tokens) {
    const bool training = is_training();
    const auto mixed = self_attention(qkv_(norm_(tokens)), heads_, training ? dropout_ : 0);
    const auto output = torch::dropout(proj_(mixed), dropout_, training);
    return tokens + torch::dropout(output, dropout_, training);
  }

 private:
  std::int64_t heads_;
  double dropout_;
  LayerNorm norm_{nullptr};
  torch::nn::Linear qkv_{nullptr}, proj_{nullptr};
};
TORCH_MODULE(AttentionLayer);

// x + drop(linear(drop(GELU(linear(LN x))))). Tokens [B, N, C] -> the same.
class FeedForwardLayerImpl : public torch::nn::Module {
 public:
  FeedForwardLayerImpl(std::int64_t channels, std::int64_t hidden, double dropout)
      : norm_(channels),
        net_(make_linear(channels, hidden), torch::nn::GELU(), torch::nn::Dropout(dropout),
             make_linear(hidden, channels), torch::nn::Dropout(dropout)) {
    register_inside(*this, norm_)->register_module("net", net_);
  }
  torch::Tensor forward(const torch::Tensor& tokens) {
    return tokens + net_->forward(norm_(tokens));
  }

 private:
  LayerNorm norm_{nullptr};
  torch::nn::Sequential net_;
};
TORCH_MODULE(FeedForwardLayer);

constexpr std::int64_t kPatch = 8;  // voxels along an axis that become a token

std::array<std::int64_t, 3> image_size(const ModelConfig& config) {
  return fixed_size(config.transbts.img_size, "img_size", kPatch);
}

void check_config(const ModelConfig& config) {
  const auto& options = config.transbts;
  refuse_deep_supervision(config.deep_supervision, config.name);
  if (options.base % options.group_norm_groups != 0) {
    throw Error(concat("model.base must be a multiple of model.group_norm_groups, got ",
                       options.base, " and ", options.group_norm_groups));
  }
  if (32 * options.base % options.heads != 0) {
    throw Error(concat("model.heads must divide the transformer's channels, 32 * model.base = ",
                       32 * options.base, ", got ", options.heads));
  }
}

}  // namespace

InputSizes TransBtsImpl::input_sizes(const ModelConfig& config) {
  return {
      .multiple = {kPatch, kPatch, kPatch}, .exact = image_size(config), .exact_key = "img_size"};
}

TransBtsImpl::TransBtsImpl(const ModelConfig& config)
    : SegmentationModel(input_sizes(config), config.in_channels),
      dropout_(config.transbts.dropout) {
  const auto& options = config.transbts;
  check_config(config);
  const auto base = options.base, embedding = 32 * base;
  std::int64_t tokens = 1;
  for (const auto size : image_size(config)) tokens *= size / kPatch;

  const auto unused = [](auto module) {
    for (auto& parameter : module->parameters()) parameter.set_requires_grad(false);
    return module;
  };
  register_module("linear_encoding",
                  unused(make_linear(kPatch * base * config.in_channels, embedding)));
  const auto positions =
      register_module("position_encoding", std::make_shared<torch::nn::Module>());
  position_embeddings_ =
      positions->register_parameter("position_embeddings", torch::zeros({1, tokens, embedding}));
  torch::nn::Sequential layers;
  for (std::int64_t i = 0; i < options.layers; ++i) {
    const AttentionLayer attention(embedding, options.heads, options.dropout);
    const FeedForwardLayer feed_forward(embedding, options.hidden, options.dropout);
    layers->push_back(attention);
    layers->push_back(feed_forward);
    transformer_.emplace_back(attention, feed_forward);
  }
  const auto transformer = register_module("transformer", std::make_shared<torch::nn::Module>());
  transformer->register_module("net", layers);
  register_module("pre_head_ln", unused(LayerNorm(embedding)));
  const auto conv_x = register_module("conv_x", convolution(kPatch * base, embedding));

  const auto unet = register_module("Unet", std::make_shared<torch::nn::Module>());
  const std::vector<std::vector<const char*>> blocks = {
      {"EnBlock1"},
      {"EnBlock2_1", "EnBlock2_2"},
      {"EnBlock3_1", "EnBlock3_2"},
      {"EnBlock4_1", "EnBlock4_2", "EnBlock4_3", "EnBlock4_4"}};
  for (std::size_t level = 0; level < blocks.size(); ++level) {
    const auto channels = base << level;
    torch::nn::Sequential encoder;
    if (level == 0) {
      const auto initial = convolution(config.in_channels, channels);
      unet->register_module("InitConv", wrapped(initial));
      encoder->push_back(initial);
      // Of whole channels. Not a module of its own, which would have to be registered, under a name
      // that the original does not have, to hear of eval().
      encoder->push_back(
          torch::nn::Functional([this, rate = options.channel_dropout](const torch::Tensor& x) {
            return torch::feature_dropout(x, rate, is_training());
          }));
    } else {
      const auto down = convolution(channels / 2, channels, 3, /*stride=*/2);
      unet->register_module(concat("EnDown", level), wrapped(down));
      encoder->push_back(down);
    }
    for (const auto* name : blocks[level]) {
      // The original calls the group norms bn.
      const PreActivationBlock block(PreActivationBlockOptions{
          .channels = channels, .groups = options.group_norm_groups, .norm_name = "bn"});
      encoder->push_back(unet->register_module(name, block));
    }
    encoders_.push_back(encoder);
  }
  embedding_ = torch::nn::Sequential(
      register_module("bn", BatchNorm(torch::nn::BatchNormOptions(kPatch * base))),
      torch::nn::ReLU(torch::nn::ReLUOptions(/*inplace=*/true)), conv_x);
  bottleneck_ = torch::nn::Sequential(
      register_module("Enblock8_1", DecoderBlock(embedding, embedding / 4)),
      register_module("Enblock8_2", DecoderBlock(embedding / 4, embedding / 4)));
  for (std::int64_t level = 2; level >= 0; --level) {
    const auto channels = base << level;
    ups_.emplace_back(register_module(concat("DeUp", level + 2), UpBlock(2 * channels, channels)));
    decoders_.emplace_back(
        register_module(concat("DeBlock", level + 2), DecoderBlock(channels, channels)));
  }
  endconv_ = register_module("endconv", convolution(base, config.out_channels, 1));
}

std::vector<torch::Tensor> TransBtsImpl::compute(torch::Tensor input, bool) {
  Tensors skips;
  auto feature = std::move(input);
  for (std::size_t i = 0; i < encoders_.size(); ++i) {
    feature = run_part(
        concat("encoder", i + 1), [this, i](Tensors x) { return encoders_[i]->forward(x[0]); },
        moved(std::move(feature)));
    skips.push_back(feature);
  }
  skips.pop_back();
  feature = run_part(
      "embedding", [this](Tensors x) { return embedding_->forward(x[0]); },
      moved(std::move(feature)));
  const auto volume = feature;
  feature = volume_to_tokens(feature);
  feature = torch::dropout(feature + position_embeddings_.to(feature.scalar_type()), dropout_,
                           is_training());
  for (std::size_t i = 0; i < transformer_.size(); ++i) {
    feature = run_part(
        concat("transformer", i + 1),
        [this, i](Tensors x) { return transformer_[i]->forward(x[0]); }, moved(std::move(feature)));
  }
  feature = tokens_to_volume(feature, volume);
  feature = run_part(
      "bottleneck", [this](Tensors x) { return bottleneck_->forward(x[0]); },
      moved(std::move(feature)));
  for (std::size_t i = 0; i < decoders_.size(); ++i) {
    feature = run_part(
        concat("decoder", 4 - i),
        [this, i](Tensors x) {
          return decoders_[i]->forward(ups_[i].forward<torch::Tensor>(x[0], x[1]));
        },
        moved(std::move(feature), std::move(skips.back())));
    skips.pop_back();
  }
  return {endconv_(feature)};
}

std::vector<std::string> TransBtsImpl::parts() const {
  std::vector<std::string> names = {"encoder1", "encoder2", "encoder3", "encoder4", "embedding"};
  for (std::size_t i = 0; i < transformer_.size(); ++i) {
    names.push_back(concat("transformer", i + 1));
  }
  for (const char* name : {"bottleneck", "decoder4", "decoder3", "decoder2"}) {
    names.emplace_back(name);
  }
  return names;
}

}  // namespace segmamba::nn
