// What nnU-Net, MedNeXt and U-Mamba say of configs and inputs they cannot take, and how they start.

#include <gmock/gmock.h>
#include <torch/torch.h>

#include <cmath>
#include <functional>
#include <string>

#include "segmamba/nn/model.h"
#include "support/error_of.h"

namespace segmamba::nn {
namespace {

using test::error_of;
using ::testing::HasSubstr;

ModelConfig config_of(const char* name) {
  ModelConfig config;
  config.name = name;
  return config;
}

TEST(Unets, ErrorsNameTheKey) {
  struct Case {
    const char* name;
    std::function<void(ModelConfig&)> change;
    const char* error;
  };
  const Case cases[] = {
      {"nnunet", [](auto& c) { c.nnunet.features_per_stage = {8}; },
       "model.features_per_stage needs at least two stages, got 1"},
      {"nnunet",
       [](auto& c) {
         c.nnunet.kernel_sizes = {{3, 3, 3}, {3, 3, 3}};
       },
       "model.kernel_sizes needs one entry, or one a stage (6), got 2"},
      {"nnunet",
       [](auto& c) {
         c.nnunet.kernel_sizes = {{3, 4, 3}};
       },
       "model.kernel_sizes: must be odd, got [3, 4, 3]"},
      {"nnunet",
       [](auto& c) {
         c.nnunet.kernel_sizes = {{3, 3}};
       },
       "model.kernel_sizes: each entry needs three numbers [D, H, W], got [3, 3]"},
      {"nnunet",
       [](auto& c) {
         c.nnunet.strides = {{2, 2, 2}};
       },
       "model.strides needs one entry a stage (6), or [], got 1"},
      {"nnunet",
       [](auto& c) {
         c.nnunet.features_per_stage = {8, 8};
         c.nnunet.strides = {{1, 2, 2}, {2, 2, 2}};
       },
       "model.strides: the first stage keeps the full resolution, [1, 1, 1], got [1, 2, 2]"},
      {"nnunet_resenc",
       [](auto& c) {
         c.nnunet_resenc.n_blocks_per_stage = {1, 2};
       },
       "model.n_blocks_per_stage needs one number, or one a stage (6), got 2"},
      {"nnunet",
       [](auto& c) {
         c.nnunet.n_conv_per_stage_decoder = {1, 2};
       },
       "model.n_conv_per_stage_decoder needs one number, or one a stage (5), got 2"},
      {"umamba_enc", [](auto&) {},
       "model.input_size: the network is made for inputs of one size [D, H, W], which must be "
       "given"},
      {"umamba_enc",
       [](auto& c) {
         c.umamba.input_size = {64, 64, 72};
       },
       "model.input_size: 64x64x72 does not fit: each size must be a multiple of 32"},
      {"segresnet", [](auto& c) { c.deep_supervision = true; },
       "model.deep_supervision: segresnet has no outputs at coarser resolutions"},
      {"mednext", [](auto& c) { c.mednext.kernel_size = 4; },
       "model.kernel_size: must be odd, got 4"},
      {"mednext",
       [](auto& c) {
         c.mednext.exp_r = {2, 3};
       },
       "model.exp_r needs one number, or 9 (one a level, down and up again), got 2"},
      {"mednext", [](auto& c) { c.mednext.block_counts = {2}; },
       "model.block_counts needs 9 (one a level, down and up again), got 1"}};
  for (const auto& [name, change, error] : cases) {
    auto config = config_of(name);
    change(config);
    EXPECT_EQ(error_of([&] { make_model(config); }), error);
  }
}

// An instance norm over a single voxel would leave nothing of it.
TEST(Unets, RefuseASingleVoxelAtTheBottom) {
  auto config = config_of("mednext");
  config.in_channels = 1;
  config.mednext.n_channels = 2;
  const auto error = error_of([&] {
    make_model(config)->forward(torch::zeros({1, 1, 16, 16, 16}));
  });
  EXPECT_THAT(error, HasSubstr("single voxel"));
  // A layer norm does not.
  config.mednext.norm_type = "layer";
  EXPECT_EQ(make_model(config)->forward(torch::zeros({1, 1, 16, 16, 16})).size(1), 4);
}

TEST(Unets, HeadsThatAreNotUsedAreNotTrained) {
  auto config = config_of("nnunet");
  config.nnunet.features_per_stage = {4, 6, 8};
  const auto is_trained = [&](const std::string& name) {
    return make_model(config)->named_parameters()[name].requires_grad();
  };
  EXPECT_FALSE(is_trained("decoder.seg_layers.0.weight"));
  EXPECT_TRUE(is_trained("decoder.seg_layers.1.weight"));
  config.deep_supervision = true;
  EXPECT_TRUE(is_trained("decoder.seg_layers.0.weight"));
}

TEST(Unets, StartAsTheirOriginalsDo) {
  torch::manual_seed(3);
  auto config = config_of("nnunet_resenc");
  config.nnunet_resenc.features_per_stage = {32, 48};
  config.nnunet_resenc.n_blocks_per_stage = {1, 2};
  const auto parameters = make_model(config)->named_parameters();
  // Residual units start as their shortcuts; He's deviation is sqrt(2 / (1 + 0.01^2) / fan_in).
  EXPECT_EQ(parameters["encoder.stages.1.blocks.1.conv2.norm.weight"].abs().max().item<float>(), 0);
  EXPECT_EQ(parameters["encoder.stages.1.blocks.1.conv1.norm.weight"].min().item<float>(), 1);
  EXPECT_NEAR(parameters["encoder.stages.1.blocks.1.conv1.conv.weight"].std().item<double>(),
              std::sqrt(2 / (48 * 27.0)), 1e-3);
  EXPECT_NEAR(parameters["decoder.transpconvs.0.weight"].std().item<double>(),
              std::sqrt(2 / (32 * 8.0)), 2e-3);
  EXPECT_EQ(parameters["decoder.transpconvs.0.bias"].abs().max().item<float>(), 0);
}

}  // namespace
}  // namespace segmamba::nn
