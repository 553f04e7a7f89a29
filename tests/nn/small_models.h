#pragma once
// A small config of every network, and an input that fits it.

#include <torch/torch.h>

#include <functional>
#include <ostream>
#include <string>
#include <vector>

#include "segmamba/nn/model_config.h"

namespace segmamba::test {

struct SmallModel {
  std::string name;                              // of the case
  std::vector<std::int64_t> sizes;               // [D, H, W] of an input
  std::function<void(nn::ModelConfig&)> change;  // sets config.name and what makes it small

  // Two channels in, three out.
  nn::ModelConfig config() const {
    nn::ModelConfig config;
    config.in_channels = 2;
    config.out_channels = 3;
    change(config);
    return config;
  }
  torch::Tensor input(std::int64_t batch = 1) const {
    auto shape = sizes;
    shape.insert(shape.begin(), {batch, 2});
    return torch::randn(shape);
  }
};

inline void PrintTo(const SmallModel& model, std::ostream* out) { *out << model.name; }

inline const std::vector<SmallModel>& small_models() {
  static const std::vector<SmallModel> models = {
      {"segmamba_tom",
       {16, 16, 24},
       [](auto& c) {
         c.segmamba.dims = {4, 6, 8};
         c.segmamba.depths = {1, 1, 1};
         c.segmamba.hidden_size = 10;
         c.deep_supervision = true;
       }},
      {"segmamba_bidirectional",
       {16, 16, 24},
       [](auto& c) {
         c.segmamba.encoder = "bidirectional";
         c.segmamba.dims = {4, 6, 8};
         c.segmamba.depths = {1, 1, 1};
         c.segmamba.hidden_size = 10;
       }},
      {"segmamba_paper",
       {16, 16, 24},
       [](auto& c) {
         c.segmamba.encoder = "paper";
         c.segmamba.dims = {4, 6, 8};
         c.segmamba.depths = {1, 1, 1};
         c.segmamba.hidden_size = 10;
       }},
      {"segresnet",
       {8, 8, 16},
       [](auto& c) {
         c.name = "segresnet";
         c.segresnet.init_filters = 4;
         c.segresnet.num_groups = 2;
       }},
      {"segresnet_deconv",
       {8, 8, 16},
       [](auto& c) {
         c.name = "segresnet";
         c.segresnet.init_filters = 4;
         c.segresnet.num_groups = 2;
         c.segresnet.upsample_mode = "deconv";
         c.segresnet.dropout_prob = 0.3;
       }},
      // With 16-bit data, oneDNN leaves gradients of 3^3 weights with more than 8 channels
      // undefined where features are as small as 2x2x4 (LibTorch 2.11, CPU): the sizes here avoid
      // that.
      {"uxnet",
       {16, 16, 32},
       [](auto& c) {
         c.name = "uxnet";
         c.uxnet = {.depths = {1, 2, 1, 1}, .feat_size = {4, 6, 6, 4}, .hidden_size = 6};
         c.uxnet.drop_path_rate = 0.2;
       }},
      {"uxnet_deep",
       {32, 16, 16},
       [](auto& c) {
         c.name = "uxnet";
         c.uxnet = {.depths = {1, 1, 1, 1}, .feat_size = {4, 4, 6, 4}, .hidden_size = 6};
         c.deep_supervision = true;
       }},
      {"vim",
       {16, 16, 32},
       [](auto& c) {
         c.name = "vim";
         c.vim = {.depths = {1, 2, 1, 1}, .feat_size = {4, 6, 6, 4}, .hidden_size = 6};
         c.vim.pos_grid = {2, 8, 3};
       }},
      {"vmamba",
       {16, 16, 32},
       [](auto& c) {
         c.name = "vmamba";
         c.vmamba = {.depths = {1, 2, 1, 1}, .feat_size = {4, 6, 6, 4}, .hidden_size = 6};
       }},
      {"vmamba_wide",
       {16, 32, 16},
       [](auto& c) {
         c.name = "vmamba";
         c.vmamba = {.depths = {1, 1, 1, 1}, .feat_size = {4, 4, 6, 4}, .hidden_size = 6};
         c.vmamba.d_state = 3;
         c.vmamba.ssm_ratio = 1.5;
         c.vmamba.mlp_ratio = 0;
         c.vmamba.conv_bias = true;
       }},
      {"transbts",
       {32, 24, 16},
       [](auto& c) {
         c.name = "transbts";
         c.transbts = {.img_size = {32, 24, 16}, .base = 2, .heads = 4, .layers = 2, .hidden = 48};
         c.transbts.group_norm_groups = 2;
       }},
      {"nnunet",
       {8, 8, 16},
       [](auto& c) {
         c.name = "nnunet";
         c.nnunet.features_per_stage = {4, 6, 8};
         c.nnunet.n_conv_per_stage = {1, 2, 2};
         c.deep_supervision = true;
       }},
      {"nnunet_anisotropic",
       {4, 16, 24},
       [](auto& c) {
         c.name = "nnunet";
         c.nnunet.features_per_stage = {4, 6, 8, 10};
         c.nnunet.kernel_sizes = {{1, 3, 3}, {3, 3, 3}, {3, 3, 3}, {3, 1, 5}};
         c.nnunet.strides = {{1, 1, 1}, {1, 2, 2}, {2, 2, 2}, {1, 2, 3}};
         c.nnunet.n_conv_per_stage_decoder = {1, 2, 1};
       }},
      {"nnunet_resenc",
       {8, 8, 16},
       [](auto& c) {
         c.name = "nnunet_resenc";
         c.nnunet_resenc.features_per_stage = {4, 6, 6};
         c.nnunet_resenc.strides = {{1, 1, 1}, {2, 2, 2}, {1, 2, 2}};
         c.nnunet_resenc.n_blocks_per_stage = {1, 2, 1};
         c.deep_supervision = true;
       }},
      {"mednext",
       {16, 16, 32},
       [](auto& c) {
         c.name = "mednext";
         c.mednext.n_channels = 4;
         c.mednext.block_counts = {1, 2, 1, 1, 1, 1, 1, 1, 1};
         c.deep_supervision = true;
       }},
      {"mednext_grn_layer",
       {16, 16, 16},
       [](auto& c) {
         c.name = "mednext";
         c.mednext.n_channels = 4;
         c.mednext.kernel_size = 5;
         c.mednext.exp_r = {2};
         c.mednext.block_counts = {1, 1, 1, 1, 1, 1, 1, 1, 1};
         c.mednext.norm_type = "layer";
         c.mednext.grn = true;
         c.mednext.do_res_up_down = false;
       }},
      {"umamba_bot",
       {8, 8, 16},
       [](auto& c) {
         c.name = "umamba_bot";
         c.umamba.features_per_stage = {4, 6, 8};
         c.deep_supervision = true;
       }},
      // Its second Mamba scans channels. With more stages, random weights make it so sensitive to
      // rounding that 16 bits have little in common with 32, in the original as well.
      {"umamba_enc",
       {8, 8, 8},
       [](auto& c) {
         c.name = "umamba_enc";
         c.umamba.features_per_stage = {4, 70};
         c.umamba.input_size = {8, 8, 8};
       }},
      // Not two voxels deep where there are 16 channels or more: for such, oneDNN of LibTorch 2.11
      // computes gradients of bfloat16 weights from memory that nobody has written.
      {"unetr",
       {32, 16, 48},
       [](auto& c) {
         c.name = "unetr";
         c.unetr.img_size = {32, 16, 48};
         c.unetr.feature_size = 4;
         c.unetr.hidden_size = 12;
         c.unetr.mlp_dim = 20;
         c.unetr.num_heads = 3;
       }},
      {"unetr_perceptron",
       {32, 16, 16},
       [](auto& c) {
         c.name = "unetr";
         c.unetr.img_size = {32, 16, 16};
         c.unetr.feature_size = 4;
         c.unetr.hidden_size = 12;
         c.unetr.mlp_dim = 20;
         c.unetr.num_heads = 2;
         c.unetr.proj_type = "perceptron";
         c.unetr.qkv_bias = true;
         c.unetr.dropout_rate = 0.2;
       }},
      {"swin_unetr",
       {96, 32, 32},
       [](auto& c) {
         c.name = "swin_unetr";
         c.swin_unetr.feature_size = 6;
         c.swin_unetr.depths = {2, 2, 1, 2};
         c.swin_unetr.num_heads = {1, 2, 3, 4};
         c.swin_unetr.window_size = {3, 4, 3};
         c.swin_unetr.drop_rate = 0.1;
         c.swin_unetr.attn_drop_rate = 0.1;
         c.swin_unetr.dropout_path_rate = 0.2;
       }},
      {"swin_unetr_v2",
       {96, 32, 32},
       [](auto& c) {
         c.name = "swin_unetr_v2";
         c.swin_unetr.feature_size = 6;
         c.swin_unetr.depths = {1, 2, 1, 1};
         c.swin_unetr.num_heads = {1, 2, 3, 4};
         c.swin_unetr.window_size = {4, 4, 4};
         c.swin_unetr.merging = "legacy";
         c.swin_unetr.qkv_bias = false;
       }},
      {"nnformer",
       {32, 64, 32},
       [](auto& c) {
         c.name = "nnformer";
         c.nnformer.crop_size = {32, 64, 32};
         c.nnformer.embedding_dim = 8;
         c.nnformer.num_heads = {1, 2, 4, 4};
         c.nnformer.window_size = {3, 4, 8, 4};
         c.deep_supervision = true;
       }},
  };
  return models;
}

}  // namespace segmamba::test
