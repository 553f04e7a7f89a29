// MedNeXt's blocks, seen through a network whose other parts hand on what they get.

#include "segmamba/nn/mednext.h"

#include <gmock/gmock.h>

#include <cmath>

#include "golden.h"

namespace segmamba::nn {
namespace {

using test::near;

class MedNextTest : public ::testing::Test {
 protected:
  MedNextTest() {
    config_.name = "mednext";
    config_.in_channels = 1;
    config_.mednext.exp_r = {2};
    config_.mednext.block_counts = {1, 1, 1, 1, 1, 1, 1, 1, 1};
  }
  void make() {
    torch::manual_seed(3);
    model_ = make_model(config_);
    model_->to(torch::kFloat64);
    parameters_ = model_->named_parameters();
    torch::NoGradGuard no_grad;
    for (auto& parameter : parameters_) parameter.value().normal_();  // none neutral
  }
  torch::Tensor& at(const std::string& name) { return parameters_[name]; }
  void set(const std::string& name, const torch::Tensor& value) {
    const torch::NoGradGuard no_grad;
    at(name).copy_(value.to(torch::kFloat64).view_as(at(name)));
  }
  void set_zero(const std::string& layer) {
    const torch::NoGradGuard no_grad;
    for (const auto* part : {".weight", ".bias"}) at(layer + part).zero_();
  }
  // A block whose residual connection is all there is.
  void bypass(const std::string& block) { set_zero(block + ".conv3"); }

  ModelConfig config_;
  std::shared_ptr<SegmentationModel> model_;
  torch::OrderedDict<std::string, torch::Tensor> parameters_;
};

TEST_F(MedNextTest, UpBlocksLeaveTheFirstPlanesZero) {
  config_.out_channels = 4;
  config_.mednext.n_channels = 2;
  config_.deep_supervision = true;
  for (const std::int64_t taps : {3, 5}) {
    SCOPED_TRACE(taps);
    config_.mednext.kernel_size = taps;
    make();
    bypass("dec_block_0.0");
    // What the heads get, as it is: up_0 d_1 + e_0 in the first two channels, and d_1.
    for (const auto* head : {"out_0.conv_out", "out_1.conv_out"}) {
      set_zero(head);
      const auto weight = head + std::string(".weight");
      set(weight, torch::eye(at(weight).size(0), 4));
    }
    const torch::NoGradGuard no_grad;
    const auto input = torch::randn({1, 1, 16, 32, 16}, torch::kFloat64);
    const auto outputs = model_->forward_deep(input);
    const auto with = outputs[0].narrow(1, 0, 2), x = outputs[1];

    // The block by hand: depth-wise transposed convolution, norm, and so on.
    const auto conv = [&](const torch::Tensor& in, const std::string& name) {
      return torch::conv3d(in, at("up_0." + name + ".weight"), at("up_0." + name + ".bias"));
    };
    const auto up = [&](const std::string& name, std::int64_t padding, std::int64_t groups) {
      return torch::conv_transpose3d(x, at("up_0." + name + ".weight"),
                                     at("up_0." + name + ".bias"),
                                     /*stride=*/2, padding, /*output_padding=*/0, groups);
    };
    const auto norm = torch::group_norm(up("conv1", taps / 2, 4), 4, at("up_0.norm.weight"),
                                        at("up_0.norm.bias"));
    const auto sum = conv(torch::gelu(conv(norm, "conv2")), "conv3") + up("res_conv", 0, 1);
    ASSERT_EQ(sum.sizes(), torch::IntArrayRef({1, 2, 15, 31, 15}));

    set_zero("up_0.conv3");
    set_zero("up_0.res_conv");
    const auto without = model_->forward_deep(input)[0].narrow(1, 0, 2);  // e_0 alone
    EXPECT_TRUE(near(with - without, torch::constant_pad_nd(sum, {1, 0, 1, 0, 1, 0}), 1e-12));
    for (std::int64_t axis = 2; axis < 5; ++axis) {
      EXPECT_TRUE(torch::equal(with.select(axis, 0), without.select(axis, 0))) << axis;
      EXPECT_FALSE(torch::equal(with.select(axis, 1), without.select(axis, 1))) << axis;
    }
  }
}

// Half of the voxels are 1 and half -1, which the norm makes 40 and 0, and conv2 40 and 0 in the
// first hidden channel, 120 and 0 in the second; GELU leaves such numbers. The channels' norms over
// space are as 40 to 120, so that they are 0.5 and 1.5 of their mean.
TEST_F(MedNextTest, GlobalResponseNormalisationByHand) {
  config_.out_channels = 1;
  config_.mednext.n_channels = 1;
  config_.mednext.grn = true;
  make();
  set("stem.weight", torch::ones(1));
  set("stem.bias", torch::zeros(1));
  set("out_0.conv_out.weight", torch::ones(1));
  set("out_0.conv_out.bias", torch::zeros(1));
  bypass("enc_block_0.0");
  bypass("up_0");
  set_zero("up_0.res_conv");
  const std::string block = "dec_block_0.0.";
  auto tap = torch::zeros({3, 3, 3});
  tap[1][1][1] = 1;
  set(block + "conv1.weight", tap);
  set(block + "conv1.bias", torch::zeros(1));
  set(block + "norm.weight", torch::full(1, 20 * std::sqrt(1 + 1e-5), torch::kFloat64));
  set(block + "norm.bias", torch::full(1, 20));
  set(block + "conv2.weight", torch::tensor({1, 3}));
  set(block + "conv2.bias", torch::zeros(2));
  set(block + "grn_gamma", torch::tensor({2, -1}));
  set(block + "grn_beta", torch::tensor({3, 5}));
  set(block + "conv3.weight", torch::tensor({1, 10}));
  set(block + "conv3.bias", torch::zeros(1));

  const torch::NoGradGuard no_grad;
  const auto places = torch::arange(16 * 16 * 32).view({1, 1, 16, 16, 32});
  const auto is_one = places % 2 == 0;
  const auto input = torch::where(is_one, 1.0, -1.0).to(torch::kFloat64);
  const auto output = model_->forward(input);
  //  40: 2 * 40 * 0.5 + 3 + 40 = 83;  120: -1 * 120 * 1.5 + 5 + 120 = -55;  1 + 83 - 550
  //   0: 3;                             0: 5;                              -1 +  3 +  50
  const auto expected = torch::where(is_one, -466.0, 52.0).to(torch::kFloat64);
  EXPECT_LT((output - expected).abs().max().item<double>(), 1e-6);
}

// The original never hands `grn` on to the first of them.
TEST_F(MedNextTest, TheFirstDownBlockHasNoGlobalResponseNormalisation) {
  config_.mednext.n_channels = 1;
  config_.mednext.grn = true;
  make();
  for (const std::string name : {"gamma", "beta"}) {
    EXPECT_FALSE(parameters_.contains("down_0.grn_" + name));
    for (const std::string block : {"enc_block_0.0", "down_1", "down_2", "down_3", "bottleneck.0",
                                    "up_3", "up_0", "dec_block_0.0"}) {
      EXPECT_TRUE(parameters_.contains(block + ".grn_" + name)) << block;
    }
  }
}

}  // namespace
}  // namespace segmamba::nn
