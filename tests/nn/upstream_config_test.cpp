#include "segmamba/nn/upstream_config.h"

#include <gmock/gmock.h>

#include "segmamba/nn/model.h"
#include "support/error_of.h"

namespace segmamba::nn {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

ModelConfig config_of(const std::string& model, const std::string& arguments) {
  return config_from_upstream(model, parse_json(arguments, "test"), "file.safetensors");
}
std::string error(const std::string& model, const std::string& arguments) {
  return test::error_of([&] { config_of(model, arguments); });
}

TEST(UpstreamConfig, TakesTheWordsOfTheOriginals) {
  const auto mednext = config_of("mednext_k5", R"({"n_classes": 2, "in_channels": 3, "exp_r": 2,
      "kernel_size": 5, "deep_supervision": true, "do_res": true})");
  EXPECT_EQ(mednext.name, "mednext");
  EXPECT_EQ(mednext.out_channels, 2);
  EXPECT_EQ(mednext.in_channels, 3);
  EXPECT_TRUE(mednext.deep_supervision);
  EXPECT_THAT(mednext.mednext.exp_r, ElementsAre(2));
  const auto segmamba = config_of("segmamba", R"({"in_chans": 4, "feat_size": [4, 6],
      "depths": [1, 2], "hidden_size": 8, "encoder": "bidirectional"})");
  EXPECT_THAT(segmamba.segmamba.dims, ElementsAre(4, 6));
  EXPECT_EQ(segmamba.out_channels, 13);
}

// As Python would call the constructor.
TEST(UpstreamConfig, WhatIsLeftOutIsAsTheOriginalHasIt) {
  const auto mednext = config_of("mednext", "{}").mednext;
  EXPECT_THAT(mednext.exp_r, ElementsAre(4));
  EXPECT_EQ(mednext.kernel_size, 7);
  EXPECT_FALSE(mednext.do_res || mednext.do_res_up_down);
  EXPECT_EQ(config_of("swin_unetr", "{}").swin_unetr.feature_size, 24);
  EXPECT_EQ(config_of("segresnet", "{}").segresnet.init_filters, 8);
  EXPECT_EQ(config_of("uxnet", R"({"out_chans": 4})").out_channels, 4);
}

TEST(UpstreamConfig, OneNumberStandsForAllAxesOrStages) {
  EXPECT_THAT(config_of("unetr", R"({"img_size": 32})").unetr.img_size, ElementsAre(32, 32, 32));
  EXPECT_THAT(config_of("swin_unetr", R"({"window_size": 5})").swin_unetr.window_size,
              ElementsAre(5, 5, 5));
  const auto nnunet = config_of("nnunet", R"({"features_per_stage": [4, 8], "n_stages": 2,
      "kernel_sizes": [[1, 3, 3], 3], "strides": [1, 2], "n_conv_per_stage": 2,
      "conv_bias": true, "nonlin_kwargs": {"inplace": true}})");
  EXPECT_THAT(nnunet.nnunet.kernel_sizes, ElementsAre(ElementsAre(1, 3, 3), ElementsAre(3, 3, 3)));
  EXPECT_THAT(nnunet.nnunet.strides, ElementsAre(ElementsAre(1, 1, 1), ElementsAre(2, 2, 2)));
  EXPECT_THAT(nnunet.nnunet.n_conv_per_stage, ElementsAre(2));
}

TEST(UpstreamConfig, SecondVersionOfSwinUnetrIsANetworkOfItsOwn) {
  EXPECT_EQ(config_of("swin_unetr", R"({"use_v2": true})").name, "swin_unetr_v2");
  EXPECT_EQ(config_of("swin_unetr", R"({"use_v2": false})").name, "swin_unetr");
  EXPECT_EQ(config_of("swin_unetr_v2", "{}").name, "swin_unetr_v2");
}

TEST(UpstreamConfig, WhatTheNetworkCannotBeIsAnError) {
  EXPECT_THAT(error("resnet", "{}"), HasSubstr("there is no network \"resnet\""));
  EXPECT_THAT(error("unetr", R"({"hiden_size": 3})"),
              HasSubstr("unknown key hiden_size; did you mean hidden_size?"));
  EXPECT_THAT(error("unetr", R"({"norm_name": "batch"})"),
              HasSubstr("norm_name = \"batch\" is not supported, only \"instance\""));
  EXPECT_THAT(error("unetr", R"({"num_heads": "twelve"})"), HasSubstr("num_heads must be"));
  EXPECT_THAT(error("nnunet", R"({"features_per_stage": [4, 8], "n_stages": 3})"),
              HasSubstr("it must be the length of features_per_stage, 2"));
  EXPECT_THAT(error("transbts", R"({"base": 2, "emb": 32})"),
              HasSubstr("it must be 32 * base, 64"));
  EXPECT_THAT(error("unetr", "[1]"), HasSubstr("the arguments must be a JSON object"));
}

}  // namespace
}  // namespace segmamba::nn
