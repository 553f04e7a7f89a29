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
  std::string name;                        // of the case
  std::vector<std::int64_t> sizes;         // [D, H, W] of an input
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
      {"segmamba_tom", {16, 16, 24}, [](auto& c) {
         c.segmamba.dims = {4, 6, 8};
         c.segmamba.depths = {1, 1, 1};
         c.segmamba.hidden_size = 10;
         c.deep_supervision = true;
       }},
      {"segmamba_bidirectional", {16, 16, 24}, [](auto& c) {
         c.segmamba.encoder = "bidirectional";
         c.segmamba.dims = {4, 6, 8};
         c.segmamba.depths = {1, 1, 1};
         c.segmamba.hidden_size = 10;
       }},
      {"segmamba_paper", {16, 16, 24}, [](auto& c) {
         c.segmamba.encoder = "paper";
         c.segmamba.dims = {4, 6, 8};
         c.segmamba.depths = {1, 1, 1};
         c.segmamba.hidden_size = 10;
       }},
      {"segresnet", {8, 8, 16}, [](auto& c) {
         c.name = "segresnet";
         c.segresnet.init_filters = 4;
         c.segresnet.num_groups = 2;
       }},
      {"segresnet_deconv", {8, 8, 16}, [](auto& c) {
         c.name = "segresnet";
         c.segresnet.init_filters = 4;
         c.segresnet.num_groups = 2;
         c.segresnet.upsample_mode = "deconv";
         c.segresnet.dropout_prob = 0.3;
       }},
      {"nnunet", {8, 8, 16}, [](auto& c) {
         c.name = "nnunet";
         c.nnunet.features_per_stage = {4, 6, 8};
         c.nnunet.n_conv_per_stage = {1, 2, 2};
         c.deep_supervision = true;
       }},
      {"nnunet_anisotropic", {4, 16, 24}, [](auto& c) {
         c.name = "nnunet";
         c.nnunet.features_per_stage = {4, 6, 8, 10};
         c.nnunet.kernel_sizes = {{1, 3, 3}, {3, 3, 3}, {3, 3, 3}, {3, 1, 5}};
         c.nnunet.strides = {{1, 1, 1}, {1, 2, 2}, {2, 2, 2}, {1, 2, 3}};
         c.nnunet.n_conv_per_stage_decoder = {1, 2, 1};
       }},
      {"nnunet_resenc", {8, 8, 16}, [](auto& c) {
         c.name = "nnunet_resenc";
         c.nnunet_resenc.features_per_stage = {4, 6, 6};
         c.nnunet_resenc.strides = {{1, 1, 1}, {2, 2, 2}, {1, 2, 2}};
         c.nnunet_resenc.n_blocks_per_stage = {1, 2, 1};
         c.deep_supervision = true;
       }},
      {"mednext", {16, 16, 32}, [](auto& c) {
         c.name = "mednext";
         c.mednext.n_channels = 4;
         c.mednext.block_counts = {1, 2, 1, 1, 1, 1, 1, 1, 1};
         c.deep_supervision = true;
       }},
      {"mednext_grn_layer", {16, 16, 16}, [](auto& c) {
         c.name = "mednext";
         c.mednext.n_channels = 4;
         c.mednext.kernel_size = 5;
         c.mednext.exp_r = {2};
         c.mednext.block_counts = {1, 1, 1, 1, 1, 1, 1, 1, 1};
         c.mednext.norm_type = "layer";
         c.mednext.grn = true;
         c.mednext.do_res_up_down = false;
       }},
      {"umamba_bot", {8, 8, 16}, [](auto& c) {
         c.name = "umamba_bot";
         c.umamba.features_per_stage = {4, 6, 8};
         c.deep_supervision = true;
       }},
      // Its second Mamba scans channels. With more stages, random weights make it so sensitive to
      // rounding that 16 bits have little in common with 32, in the original as well.
      {"umamba_enc", {8, 8, 8}, [](auto& c) {
         c.name = "umamba_enc";
         c.umamba.features_per_stage = {4, 70};
         c.umamba.input_size = {8, 8, 8};
       }},
  };
  return models;
}

}  // namespace segmamba::test
