#include "segmamba/nn/upstream_config.h"

#include <gmock/gmock.h>

#include "segmamba/core/text.h"
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

// As plans files of nnU-Net name them: classes by their modules, with the words of their
// constructors.
TEST(UpstreamConfig, LayersOfNnUnetAreThoseOfItsPlans) {
  EXPECT_EQ(error("nnunet", R"({"conv_op": "torch.nn.modules.conv.Conv3d", "conv_bias": true,
      "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
      "norm_op_kwargs": {"eps": 1e-05, "affine": true}, "dropout_op": null,
      "dropout_op_kwargs": null, "nonlin": "torch.nn.LeakyReLU",
      "nonlin_kwargs": {"inplace": true}, "nonlin_first": false})"),
            "");
  EXPECT_EQ(error("umamba_enc", R"({"norm_op_kwargs": {"affine": true},
                                    "nonlin_kwargs": {"negative_slope": 0.01, "inplace": false}})"),
            "");
  EXPECT_EQ(error("nnunet", R"({"nonlin_kwargs": null})"), "");
  for (const auto* argument :
       {R"("conv_op": "torch.nn.modules.conv.Conv2d")", R"("conv_op": null)",
        R"("norm_op": "torch.nn.BatchNorm3d")", R"("norm_op": null)", R"("norm_op": 3)",
        R"("norm_op_kwargs": {"eps": 1e-3, "affine": true})", R"("norm_op_kwargs": {"eps": 1e-5})",
        R"("norm_op_kwargs": null)", R"("norm_op_kwargs": {"affine": true, "num_groups": 2})",
        R"("dropout_op": "torch.nn.Dropout3d")", R"("nonlin": "torch.nn.ReLU")",
        R"("nonlin": "LeakyReLU2")", R"("nonlin": null)",
        R"("nonlin_kwargs": {"negative_slope": 0.1})", R"("nonlin_kwargs": [])",
        R"("nonlin_first": true)", R"("conv_bias": false)"}) {
    for (const auto* network : {"nnunet", "nnunet_resenc", "umamba_bot", "umamba_enc"}) {
      const std::string name = split(argument, '"')[1];
      EXPECT_THAT(error(network, concat("{", argument, "}")),
                  HasSubstr(concat("file.safetensors: ", network, " with ", name, " = ")))
          << argument;
    }
  }
  EXPECT_THAT(error("unetr", R"({"conv_block": false})"),
              HasSubstr("unetr with conv_block = false"));
}

TEST(UpstreamConfig, ArgumentsOfOtherNetworksAreErrors) {
  EXPECT_EQ(error("unetr", R"({"depths": [1, 2]})"),
            "file.safetensors: unetr has no argument depths");
  EXPECT_EQ(error("segresnet", R"({"window_size": 7})"),
            "file.safetensors: segresnet has no argument window_size");
  EXPECT_EQ(error("umamba_bot", R"({"input_size": [16, 16, 16]})"),
            "file.safetensors: umamba_bot has no argument input_size");
  // Keys of ours that are no arguments of any constructor.
  for (const auto* key : {"name", "init_from", "freeze"}) {
    EXPECT_EQ(error("unetr", concat("{\"", key, "\": \"vim\"}")),
              concat("file.safetensors: unetr has no argument ", key));
  }
  EXPECT_THAT(error("uxnet", R"({"in_chans": 1, "in_channels": 2})"),
              HasSubstr("in_chans and in_channels are one argument"));
}

TEST(UpstreamConfig, ErrorsAreFitForATerminal) {
  for (const auto* arguments : {R"({"\u001b[2J": 1})", R"({"num_heads": "\u001b[2J\n"})",
                                R"({"norm_name": "\u001b[2J\u007f"})"}) {
    const auto message = error("unetr", arguments);
    EXPECT_NE(message, "");
    for (const char letter : message) {
      EXPECT_TRUE(static_cast<unsigned char>(letter) >= 0x20 && letter != 0x7f) << message;
    }
  }
  EXPECT_THAT(error("\x1b[2J", "{}"), HasSubstr("there is no network \"?[2J\""));
  EXPECT_THAT(error("\xc2\x9b[2J \xc3\xa9", "{}"), HasSubstr("network \"?[2J \xc3\xa9\""));
}

}  // namespace
}  // namespace segmamba::nn
