#include "segmamba/nn/model_config.h"

#include <algorithm>
#include <map>

#include "config_keys.h"
#include "segmamba/core/text.h"

namespace segmamba::nn {
namespace {

struct Network {
  void (*visit)(ModelConfig&, ConfigVisitor&);
  std::vector<std::int64_t>* (*fixed_size)(ModelConfig&) = nullptr;
};

template <auto ModelConfig::*options>
void visit_options(ModelConfig& config, ConfigVisitor& visitor) {
  (config.*options).visit(visitor);
}

const std::map<std::string, Network>& networks() {
  static const std::map<std::string, Network> table = {
      {"segmamba", {visit_options<&ModelConfig::segmamba>}},
      {"segresnet", {visit_options<&ModelConfig::segresnet>}},
      {"unetr",
       {visit_options<&ModelConfig::unetr>, [](ModelConfig& c) { return &c.unetr.img_size; }}},
      {"swin_unetr", {visit_options<&ModelConfig::swin_unetr>}},
      {"swin_unetr_v2", {visit_options<&ModelConfig::swin_unetr>}},
      {"uxnet", {visit_options<&ModelConfig::uxnet>}},
      {"mednext", {visit_options<&ModelConfig::mednext>}},
      {"nnformer",
       {visit_options<&ModelConfig::nnformer>,
        [](ModelConfig& c) { return &c.nnformer.crop_size; }}},
      {"transbts",
       {visit_options<&ModelConfig::transbts>,
        [](ModelConfig& c) { return &c.transbts.img_size; }}},
      {"nnunet", {visit_options<&ModelConfig::nnunet>}},
      {"nnunet_resenc", {visit_options<&ModelConfig::nnunet_resenc>}},
      {"umamba_bot",
       {[](ModelConfig& c, ConfigVisitor& visitor) { c.umamba.NnUnetOptions::visit(visitor); }}},
      {"umamba_enc",
       {visit_options<&ModelConfig::umamba>, [](ModelConfig& c) { return &c.umamba.input_size; }}},
      {"vim", {visit_options<&ModelConfig::vim>}},
      {"vmamba", {visit_options<&ModelConfig::vmamba>}},
  };
  return table;
}

std::vector<std::string> keys_of_all_networks() {
  ConfigKeys keys;
  ModelConfig config;
  for (const auto& [name, network] : networks()) network.visit(config, keys);
  std::vector<std::string> names;
  for (const auto& [name, kind] : keys.kinds) names.push_back(name);
  return names;
}

// What many networks ask for in the same words.

constexpr double kMaxChannels = 65536;

void channels(ConfigVisitor& v, std::string_view name, std::string_view help, std::int64_t& value) {
  v.value({.name = name, .help = help, .min = 1, .max = kMaxChannels}, value);
}

void rate(ConfigVisitor& v, std::string_view name, std::string_view help, double& value) {
  v.value({.name = name, .help = help, .min = 0, .max = 0.99}, value);
}

// `items` numbers, one a stage; 0: any number of stages up to 8.
void per_stage(ConfigVisitor& v, std::string_view name, std::string_view help, double max,
               std::size_t items, std::vector<std::int64_t>& value) {
  v.value({.name = name,
           .help = help,
           .min = 1,
           .max = max,
           .min_items = items > 0 ? items : 1,
           .max_items = items > 0 ? items : 8},
          value);
}

void input_size(ConfigVisitor& v, std::string_view name, std::vector<std::int64_t>& value) {
  v.value({.name = name,
           .help = "Size [D, H, W] of every input, for which the network is made; []: "
                   "data.patch_size",
           .min = 1,
           .max = 4096,
           .max_items = 3},
          value);
}

void per_axis_and_stage(ConfigVisitor& v, std::string_view name, std::string_view help,
                        std::size_t min_items, std::vector<std::vector<std::int64_t>>& value) {
  v.value({.name = name, .help = help, .min = 1, .max = 31, .min_items = min_items, .max_items = 8},
          value);
}

constexpr double kMaxDepth = 1024;

void norm_affine(ConfigVisitor& v, bool& value) {
  v.value({.name = "norm_affine", .help = "Weight and bias in the instance norms"}, value);
}

void layers(ConfigVisitor& v, bool& conv_bias, bool& affine) {
  v.value({.name = "conv_bias", .help = "A bias in the convolutions"}, conv_bias);
  norm_affine(v, affine);
}

}  // namespace

void SegMambaOptions::visit(ConfigVisitor& v) {
  v.value({.name = "encoder",
           .help = "tom: published code; bidirectional: its first release; paper: Eq. 1",
           .choices = {"tom", "bidirectional", "paper"}},
          encoder);
  per_stage(v, "dims", "Channels of each stage; each stage halves the resolution", kMaxChannels, 0,
            dims);
  per_stage(v, "depths", "Mamba layers of each stage", kMaxDepth, 0, depths);
  channels(v, "hidden_size", "Channels at the bottom of the decoder", hidden_size);
  v.value({.name = "mlp_ratio",
           .help = "Hidden over plain channels of the MLPs (encoder paper)",
           .min = 1,
           .max = 64},
          mlp_ratio);
  v.value({.name = "directions",
           .help = "Scan orders, summed (encoder paper)",
           .choices = {"forward", "reverse", "inter-slice"},
           .min_items = 1,
           .max_items = 3},
          directions);
  v.value({.name = "downsample_norm",
           .help = "Norm before a down-sampling convolution (encoder paper)",
           .choices = {"layer", "instance", "none"}},
          downsample_norm);
}

void SegResNetOptions::visit(ConfigVisitor& v) {
  channels(v, "init_filters", "Channels at full resolution; each level doubles them", init_filters);
  v.value({.name = "num_groups", .help = "Groups of the group norms", .min = 1, .max = 65536},
          num_groups);
  per_stage(v, "blocks_down", "Residual blocks of each level of the encoder", kMaxDepth, 0,
            blocks_down);
  v.value({.name = "blocks_up",
           .help = "Residual blocks of each level of the decoder, from the bottom up",
           .min = 1,
           .max = kMaxDepth,
           .max_items = 7},
          blocks_up);
  v.value({.name = "upsample_mode",
           .help = "nontrainable: trilinear; deconv: a transposed convolution",
           .choices = {"nontrainable", "deconv"}},
          upsample_mode);
  rate(v, "dropout_prob", "Dropout of whole channels after the first convolution", dropout_prob);
}

void UnetrOptions::visit(ConfigVisitor& v) {
  input_size(v, "img_size", img_size);
  channels(v, "feature_size", "Channels at full resolution", feature_size);
  channels(v, "hidden_size", "Channels of the transformer", hidden_size);
  channels(v, "mlp_dim", "Hidden channels of its MLPs", mlp_dim);
  v.value({.name = "num_heads", .help = "Heads of its attention", .min = 1, .max = 1024},
          num_heads);
  v.value({.name = "proj_type",
           .help = "Patch embedding: conv, or perceptron as weights before MONAI 1.3 have it",
           .choices = {"conv", "perceptron"}},
          proj_type);
  v.value({.name = "qkv_bias", .help = "A bias in queries, keys and values"}, qkv_bias);
  v.value({.name = "conv_block", .help = "Convolutions where the transformer's features go up"},
          conv_block);
  v.value({.name = "res_block", .help = "Shortcuts in the convolution blocks"}, res_block);
  segmamba::nn::norm_affine(v, norm_affine);
  rate(v, "dropout_rate", "Dropout in the transformer", dropout_rate);
}

void SwinUnetrOptions::visit(ConfigVisitor& v) {
  channels(v, "feature_size", "Channels at half resolution; each stage doubles them", feature_size);
  per_stage(v, "depths", "Swin blocks of each stage", kMaxDepth, 4, depths);
  per_stage(v, "num_heads", "Heads of the attention of each stage", 1024, 4, num_heads);
  v.value({.name = "window_size",
           .help = "Window [D, H, W] of the attention, in tokens",
           .min = 1,
           .max = 64,
           .min_items = 3,
           .max_items = 3},
          window_size);
  v.value({.name = "mlp_ratio", .help = "Hidden over plain channels", .min = 0.01, .max = 64},
          mlp_ratio);
  v.value({.name = "qkv_bias", .help = "A bias in queries, keys and values"}, qkv_bias);
  v.value({.name = "normalize", .help = "Layer norm over what the encoder hands to the decoder"},
          normalize);
  v.value({.name = "patch_norm", .help = "Layer norm of the patch embedding"}, patch_norm);
  segmamba::nn::norm_affine(v, norm_affine);
  v.value({.name = "merging",
           .help = "Patch merging: legacy is MONAI's before 1.5, as most published weights need it",
           .choices = {"merging", "legacy", "mergingv2"}},
          merging);
  rate(v, "drop_rate", "Dropout after projections", drop_rate);
  rate(v, "attn_drop_rate", "Dropout of attention", attn_drop_rate);
  rate(v, "dropout_path_rate", "Stochastic depth of the last block, rising linearly from 0",
       dropout_path_rate);
}

void UxNetOptions::visit(ConfigVisitor& v) {
  per_stage(v, "depths", "Blocks of each stage", kMaxDepth, 4, depths);
  per_stage(v, "feat_size", "Channels of each stage", kMaxChannels, 4, feat_size);
  channels(v, "hidden_size", "Channels at the bottom of the decoder", hidden_size);
  v.value({.name = "res_block", .help = "Shortcuts in the blocks of the decoder"}, res_block);
  segmamba::nn::norm_affine(v, norm_affine);
  rate(v, "drop_path_rate", "Stochastic depth of the last block, rising linearly from 0",
       drop_path_rate);
}

void MedNextOptions::visit(ConfigVisitor& v) {
  v.value({.name = "size",
           .help = "S, B, M or L: what exp_r and block_counts are where they are []",
           .choices = {"S", "B", "M", "L"}},
          size);
  channels(v, "n_channels", "Channels at full resolution; each level doubles them", n_channels);
  v.value({.name = "kernel_size",
           .help = "Taps a side of the depth-wise convolutions, odd",
           .min = 1,
           .max = 31},
          kernel_size);
  v.value({.name = "dec_kernel_size",
           .help = "The same from the bottleneck on; 0: kernel_size",
           .min = 0,
           .max = 31},
          dec_kernel_size);
  v.value({.name = "exp_r",
           .help = "Expansion of the nine levels, down and up again, or one number for all",
           .min = 1,
           .max = 64,
           .max_items = 9},
          exp_r);
  v.value({.name = "block_counts",
           .help = "Blocks of the nine levels",
           .min = 1,
           .max = kMaxDepth,
           .max_items = 9},
          block_counts);
  v.value({.name = "do_res", .help = "Residual blocks"}, do_res);
  v.value({.name = "do_res_up_down", .help = "Residual connections over changes of resolution"},
          do_res_up_down);
  v.value({.name = "norm_type",
           .help = "group: each channel over space; layer: each voxel over channels",
           .choices = {"group", "layer"}},
          norm_type);
  v.value({.name = "grn", .help = "Global response normalisation in the blocks"}, grn);
}

void NnFormerOptions::visit(ConfigVisitor& v) {
  input_size(v, "crop_size", crop_size);
  channels(v, "embedding_dim", "Channels of the first stage; each doubles them", embedding_dim);
  per_stage(v, "depths", "Blocks of each stage", kMaxDepth, 4, depths);
  per_stage(v, "num_heads", "Heads of the attention of each stage", 1024, 4, num_heads);
  per_stage(v, "window_size", "Window of the attention of each stage, tokens a side", 64, 4,
            window_size);
  rate(v, "drop_path_rate", "Stochastic depth of the last block, rising linearly from 0",
       drop_path_rate);
}

void TransBtsOptions::visit(ConfigVisitor& v) {
  input_size(v, "img_size", img_size);
  channels(v, "base", "Channels at full resolution; the transformer has 32 times as many", base);
  v.value({.name = "heads", .help = "Heads of the attention", .min = 1, .max = 1024}, heads);
  v.value({.name = "layers", .help = "Layers of the transformer", .min = 1, .max = kMaxDepth},
          layers);
  channels(v, "hidden", "Hidden channels of its MLPs", hidden);
  v.value({.name = "group_norm_groups",
           .help = "Groups of the encoder's group norms",
           .min = 1,
           .max = 65536},
          group_norm_groups);
  rate(v, "channel_dropout", "Dropout of whole channels after the first convolution",
       channel_dropout);
  rate(v, "dropout", "Dropout in the transformer", dropout);
}

void NnUnetOptions::visit(ConfigVisitor& v) {
  per_stage(v, "features_per_stage", "Channels of each stage", kMaxChannels, 0, features_per_stage);
  per_axis_and_stage(v, "kernel_sizes", "Taps [D, H, W], odd: one entry a stage, or one for all", 1,
                     kernel_sizes);
  per_axis_and_stage(v, "strides", "Strides [D, H, W] into each stage; []: 1 for the first, then 2",
                     0, strides);
  per_stage(v, "n_conv_per_stage", "Convolutions of each stage, or one number for all", kMaxDepth,
            0, n_conv_per_stage);
  per_stage(v, "n_conv_per_stage_decoder", "The same of the decoder, from the bottom up", kMaxDepth,
            0, n_conv_per_stage_decoder);
  layers(v, conv_bias, norm_affine);
}

void NnUnetResEncOptions::visit(ConfigVisitor& v) {
  per_stage(v, "features_per_stage", "Channels of each stage", kMaxChannels, 0, features_per_stage);
  per_axis_and_stage(v, "kernel_sizes", "Taps [D, H, W], odd: one entry a stage, or one for all", 1,
                     kernel_sizes);
  per_axis_and_stage(v, "strides", "Strides [D, H, W] into each stage; []: 1 for the first, then 2",
                     0, strides);
  per_stage(v, "n_blocks_per_stage", "Residual blocks of each stage, or one number for all",
            kMaxDepth, 0, n_blocks_per_stage);
  per_stage(v, "n_conv_per_stage_decoder",
            "Convolutions of each stage of the decoder, from the bottom up", kMaxDepth, 0,
            n_conv_per_stage_decoder);
  v.value({.name = "stem_channels",
           .help = "Channels of the stem; 0: as many as the first stage",
           .min = 0,
           .max = kMaxChannels},
          stem_channels);
  layers(v, conv_bias, norm_affine);
}

void UMambaOptions::visit(ConfigVisitor& v) {
  NnUnetOptions::visit(v);
  segmamba::nn::input_size(v, "input_size", input_size);
}

void VimOptions::visit(ConfigVisitor& v) {
  per_stage(v, "depths", "Mamba layers of each stage", kMaxDepth, 4, depths);
  per_stage(v, "feat_size", "Channels of each stage", kMaxChannels, 4, feat_size);
  channels(v, "hidden_size", "Channels at the bottom of the decoder", hidden_size);
  v.value({.name = "d_state", .help = "States a channel of the scans", .min = 1, .max = 64},
          d_state);
  v.value({.name = "pos_grid",
           .help = "Grid [D, H, W] of the position embedding, resized to the features",
           .min = 1,
           .max = 256,
           .min_items = 3,
           .max_items = 3},
          pos_grid);
  v.value({.name = "if_divide_out", .help = "Mean of the two directions instead of their sum"},
          if_divide_out);
}

void VMambaOptions::visit(ConfigVisitor& v) {
  per_stage(v, "depths", "VSS blocks of each stage", kMaxDepth, 4, depths);
  per_stage(v, "feat_size", "Channels of each stage", kMaxChannels, 4, feat_size);
  channels(v, "hidden_size", "Channels at the bottom of the decoder", hidden_size);
  v.value({.name = "d_state", .help = "States a channel of the scans", .min = 1, .max = 64},
          d_state);
  v.value({.name = "ssm_ratio", .help = "Scanned over plain channels", .min = 0.01, .max = 64},
          ssm_ratio);
  v.value(
      {.name = "mlp_ratio", .help = "Hidden over plain channels; 0: no MLP", .min = 0, .max = 64},
      mlp_ratio);
  v.value({.name = "conv_bias", .help = "A bias in the depth-wise convolutions"}, conv_bias);
}

void ModelConfig::visit(ConfigVisitor& v) {
  v.value({.name = "name", .help = "Network", .choices = model_names()}, name);
  v.value({.name = "in_channels", .help = "Modalities of a case", .min = 1, .max = 4096},
          in_channels);
  v.value({.name = "out_channels",
           .help = "Classes, background included, or data.regions",
           .min = 1,
           .max = 65536},
          out_channels);
  v.value(
      {.name = "deep_supervision",
       .help = "Train outputs at the coarser resolutions of the decoder, too; segresnet, unetr, "
               "swin_unetr, swin_unetr_v2 and transbts have none"},
      deep_supervision);
  v.value({.name = "init_from",
           .help = "Weights to start from, instead of random ones; what the file has not, or does "
                   "not fit the channels or classes, stays random"},
          init_from);
  v.value({.name = "freeze",
           .help = "Parameters that are not trained, by name: * is any text, ? any letter (running "
                   "statistics of batch norms move all the same)"},
          freeze);
  const auto network = networks().find(name);
  if (network == networks().end()) return;  // make_model() says so
  network->second.visit(*this, v);
  v.unused(keys_of_all_networks(), "is no key of " + name);
}

std::vector<std::string> model_names() {
  std::vector<std::string> names;
  for (const auto& [name, network] : networks()) names.push_back(name);
  return names;
}

std::vector<std::int64_t>* fixed_input_size(ModelConfig& config) {
  const auto network = networks().find(config.name);
  const bool is_fixed = network != networks().end() && network->second.fixed_size != nullptr;
  return is_fixed ? network->second.fixed_size(config) : nullptr;
}

}  // namespace segmamba::nn
