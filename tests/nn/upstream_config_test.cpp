#include "segmamba/nn/upstream_config.h"

#include <gmock/gmock.h>

#include <utility>

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
// Arguments of a U-Net that name its layers; the later ones hold.
std::string with_layers(const std::string& arguments) {
  auto all = parse_json(R"({"norm_op": "torch.nn.InstanceNorm3d", "nonlin": "torch.nn.LeakyReLU"})",
                        "test");
  all.update(parse_json(arguments, "test"));
  return all.dump();
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
      "kernel_sizes": [[1, 3, 3], 3], "strides": [1, 2], "n_conv_per_stage": 2})");
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
              HasSubstr("unetr has no argument hiden_size; did you mean hidden_size? It has "
                        "in_channels, out_channels, img_size,"));
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
  EXPECT_EQ(error("umamba_enc", with_layers(R"({"norm_op_kwargs": {"affine": true},
                "nonlin_kwargs": {"negative_slope": 0.01, "inplace": false}})")),
            "");
  EXPECT_EQ(error("nnunet", with_layers(R"({"nonlin_kwargs": null})")), "");
  for (const auto* argument :
       {R"("conv_op": "torch.nn.modules.conv.Conv2d")", R"("conv_op": null)",
        R"("norm_op": "torch.nn.BatchNorm3d")", R"("norm_op": null)", R"("norm_op": 3)",
        R"("norm_op_kwargs": {"eps": 1e-3, "affine": true})",
        R"("norm_op_kwargs": {"affine": true, "num_groups": 2})",
        R"("norm_op_kwargs": {"affine": 3})", R"("nonlin": "torch.nn.ReLU")",
        R"("nonlin": "LeakyReLU2")", R"("nonlin": null)",
        R"("nonlin_kwargs": {"negative_slope": 0.1})", R"("nonlin_kwargs": [])"}) {
    for (const auto* network : {"nnunet", "nnunet_resenc", "umamba_bot", "umamba_enc"}) {
      const std::string name = split(argument, '"')[1];
      EXPECT_THAT(error(network, with_layers(concat("{", argument, "}"))),
                  HasSubstr(concat("file.safetensors: ", network, " with ", name, " = ")))
          << argument;
    }
  }
  EXPECT_THAT(error("nnunet", R"({"nonlin_first": true})"),
              HasSubstr("nnunet with nonlin_first = true is not supported, only false"));
  EXPECT_THAT(error("nnunet", R"({"dropout_op": "torch.nn.Conv3d"})"), HasSubstr("Dropout3d"));
}

TEST(UpstreamConfig, ArgumentsOfOtherNetworksAreErrors) {
  EXPECT_THAT(error("segresnet", R"({"window_size": 7})"),
              ::testing::StartsWith("file.safetensors: segresnet has no argument window_size; it "
                                    "has spatial_dims, init_filters, in_channels,"));
  EXPECT_THAT(error("umamba_bot", R"({"pos_grid": [16, 16, 16]})"),
              HasSubstr("umamba_bot has no argument pos_grid"));
  // Keys of ours that are no arguments of any constructor.
  for (const auto* key : {"name", "init_from", "freeze"}) {
    EXPECT_THAT(error("unetr", concat("{\"", key, "\": \"vim\"}")),
                HasSubstr(concat("unetr has no argument ", key, ";")));
  }
  EXPECT_THAT(error("uxnet", R"({"in_chans": 1, "in_channels": 2})"),
              HasSubstr("in_chans and in_channels are one argument of uxnet and differ"));
  EXPECT_EQ(config_of("uxnet", R"({"in_chans": 2, "in_channels": 2.0})").in_channels, 2);
}

TEST(UpstreamConfig, NullIsAsIfItWereLeftOutWhereTheOriginalHasNone) {
  EXPECT_EQ(config_of("segresnet", R"({"dropout_prob": null})").segresnet.dropout_prob, 0);
  EXPECT_EQ(error("mednext", R"({"enc_kernel_size": null, "dec_kernel_size": null,
                                 "checkpoint_style": null})"),
            "");
  EXPECT_EQ(error("nnunet_resenc", R"({"stem_channels": null, "bottleneck_channels": null,
                                       "dropout_op": null})"),
            "");
  EXPECT_EQ(error("unetr", R"({"num_heads": null})"),
            "file.safetensors: unetr: num_heads must be an integer, got null");
  EXPECT_EQ(error("nnunet", R"({"strides": [[1, 1, 1], null]})"),
            "file.safetensors: nnunet: strides must be a list of lists of integers, got "
            "[[1,1,1],null]");
  EXPECT_THAT(error("nnunet", R"({"n_stages": null})"), HasSubstr("n_stages = null"));
}

TEST(UpstreamConfig, IntegersMayBeWrittenWithAPoint) {
  const auto mednext = config_of("mednext", R"({"n_channels": 24.0, "exp_r": [2.0], "grn": 1})");
  EXPECT_EQ(mednext.mednext.n_channels, 24);
  EXPECT_THAT(mednext.mednext.exp_r, ElementsAre(2));
  EXPECT_TRUE(mednext.mednext.grn);
  EXPECT_EQ(error("mednext", R"({"n_channels": 24.9})"),
            "file.safetensors: mednext: n_channels must be an integer, got 24.9");
  EXPECT_THAT(error("mednext", R"({"n_channels": 1e300})"), HasSubstr("must be an integer"));
  EXPECT_THAT(error("mednext", R"({"grn": 2})"), HasSubstr("grn must be true or false, got 2"));
}

TEST(UpstreamConfig, LayersOfMonai) {
  const auto segresnet = [](const std::string& arguments) {
    return config_of("segresnet", arguments).segresnet;
  };
  EXPECT_EQ(segresnet(R"({"norm": ["GROUP", {"num_groups": 4}], "num_groups": 8,
                          "act": ["RELU", {"inplace": true}], "norm_name": ""})")
                .num_groups,
            4);
  EXPECT_EQ(segresnet(R"({"norm_name": "group", "num_groups": 2, "act": "relu",
                          "norm": ["group", {"num_groups": 4}]})")
                .num_groups,
            2);
  EXPECT_EQ(segresnet("{}").num_groups, 8);
  for (const auto* argument :
       {R"("norm": "BATCH")", R"("norm": ["GROUP", {"num_groups": 4, "eps": 1e-3}])",
        R"("act": "PRELU")", R"("norm_name": "batch")", R"("use_conv_final": false)"}) {
    EXPECT_THAT(error("segresnet", concat("{", argument, "}")), HasSubstr("is not supported"))
        << argument;
  }
  EXPECT_FALSE(config_of("unetr", R"({"norm_name": ["INSTANCE", {}]})").unetr.norm_affine);
  for (const auto* network : {"unetr", "swin_unetr", "swin_unetr_v2", "uxnet"}) {
    const auto config = config_of(network, R"({"norm_name": ["instance", {"affine": true}]})");
    EXPECT_EQ(config.unetr.norm_affine + config.swin_unetr.norm_affine + config.uxnet.norm_affine,
              1)
        << network;
  }
  EXPECT_THAT(error("segmamba", R"({"norm_name": ["instance", {"affine": true}]})"),
              HasSubstr("is not supported"));
}

TEST(UpstreamConfig, ArgumentsThatChangeNoResult) {
  EXPECT_EQ(config_of("unetr", R"({"save_attn": true, "pos_embed": "perceptron"})").unetr.proj_type,
            "perceptron");
  EXPECT_EQ(error("swin_unetr", R"({"patch_size": [2, 2, 2], "norm_layer": "torch.nn.LayerNorm",
      "use_checkpoint": true, "use_hyena": false, "hyena_stages": null})"),
            "");
  EXPECT_EQ(error("swin_unetr", R"({"hyena_stages": [false, false, false, false]})"), "");
  EXPECT_THAT(error("swin_unetr", R"({"hyena_stages": [true, false, false, false]})"),
              HasSubstr("is not supported"));
  EXPECT_EQ(error("vmamba", R"({"forward_type": "v05_noz", "d_conv": 3})"), "");
  EXPECT_EQ(error("umamba_bot", R"({"input_size": [4, 4, 4], "stem_channels": 3})"), "");
  EXPECT_EQ(error("unetr", R"({"deep_supervision": false})"), "");
  EXPECT_THAT(error("unetr", R"({"deep_supervision": true})"),
              HasSubstr("unetr has no argument deep_supervision"));
}

// Only MONAI before 1.5, whose merging was another, takes a size of the input.
TEST(UpstreamConfig, PatchMergingOfSwinUnetr) {
  const auto merging = [](const char* arguments) {
    return config_of("swin_unetr", arguments).swin_unetr.merging;
  };
  EXPECT_EQ(merging("{}"), "merging");
  EXPECT_EQ(merging(R"({"downsample": "merging"})"), "merging");
  EXPECT_EQ(merging(R"({"img_size": null})"), "merging");
  EXPECT_EQ(merging(R"({"img_size": 96})"), "legacy");
  EXPECT_EQ(merging(R"({"img_size": [96, 96, 96], "downsample": "merging"})"), "legacy");
  EXPECT_EQ(merging(R"({"img_size": 96, "downsample": "mergingv2"})"), "mergingv2");
  EXPECT_EQ(merging(R"({"img_size": 96, "merging": "merging"})"), "merging");
  EXPECT_EQ(config_of("swin_unetr_v2", R"({"img_size": 96})").swin_unetr.merging, "legacy");
  EXPECT_THAT(error("swin_unetr", R"({"img_size": 96, "downsample": "mean"})"),
              HasSubstr("file.safetensors: downsample must be"));
}

TEST(UpstreamConfig, KernelsOfMedNextsEncoderAndDecoder) {
  const auto apart =
      config_of("mednext", R"({"kernel_size": null, "enc_kernel_size": 3, "dec_kernel_size": 5})");
  EXPECT_EQ(apart.mednext.kernel_size, 3);
  EXPECT_EQ(apart.mednext.dec_kernel_size, 5);
  // The original does not read them beside kernel_size.
  const auto one = config_of("mednext", R"({"kernel_size": 5, "dec_kernel_size": 3})");
  EXPECT_EQ(one.mednext.kernel_size, 5);
  EXPECT_EQ(one.mednext.dec_kernel_size, 0);
  EXPECT_THAT(error("mednext", R"({"kernel_size": null, "enc_kernel_size": 3})"),
              HasSubstr("then dec_kernel_size must be given"));
  EXPECT_THAT(error("mednext", R"({"size": "S"})"), HasSubstr("mednext has no argument size"));
}

TEST(UpstreamConfig, LayersThatAUnetMayHave) {
  const auto layers = [](const std::string& network, const std::string& arguments) {
    const auto config = config_of(network, arguments);
    if (starts_with(network, "umamba")) {
      return std::pair(config.umamba.conv_bias, config.umamba.norm_affine);
    }
    return network == "nnunet"
               ? std::pair(config.nnunet.conv_bias, config.nnunet.norm_affine)
               : std::pair(config.nnunet_resenc.conv_bias, config.nnunet_resenc.norm_affine);
  };
  for (const auto* network : {"nnunet", "nnunet_resenc", "umamba_bot", "umamba_enc"}) {
    // Those of the plans where none is named, else those of the constructor.
    for (const auto* arguments : {"{}", R"({"dropout_op": null})", R"({"conv_op": "Conv3d"})"}) {
      EXPECT_EQ(layers(network, arguments), std::pair(true, true)) << network << arguments;
    }
    EXPECT_EQ(layers(network, R"({"conv_bias": false})"), std::pair(false, true)) << network;
    EXPECT_EQ(layers(network, R"({"norm_op_kwargs": {"affine": false}})"), std::pair(true, false));
    for (const auto* arguments :
         {"{}", R"({"norm_op_kwargs": null})", R"({"norm_op_kwargs": {"eps": 1e-5}})",
          R"({"conv_bias": false, "nonlin_kwargs": null})"}) {
      EXPECT_EQ(layers(network, with_layers(arguments)), std::pair(false, false))
          << network << arguments;
    }
    EXPECT_EQ(layers(network, with_layers(R"({"norm_op_kwargs": {"affine": true}})")),
              std::pair(false, true));
    EXPECT_EQ(layers(network, with_layers(R"({"conv_bias": true})")), std::pair(true, false));
    EXPECT_EQ(layers(network, with_layers(R"({"norm_affine": true})")), std::pair(false, true));
    EXPECT_EQ(error(network, with_layers(R"({"norm_op": null})")),
              concat("file.safetensors: ", network, " with norm_op = null has no norms, which is ",
                     "not supported, only InstanceNorm3d"));
    EXPECT_EQ(error(network, R"({"conv_bias": false, "norm_op": "InstanceNorm3d"})"),
              concat("file.safetensors: ", network, " without nonlin beside norm_op has no ",
                     "activations, which is not supported, only LeakyReLU"));
  }
  EXPECT_EQ(error("nnunet", with_layers(R"({"dropout_op": "torch.nn.Dropout3d",
                                            "dropout_op_kwargs": {"p": 0.1}})")),
            "");
  const auto resenc = config_of("nnunet_resenc", R"({"stem_channels": 7,
      "block": "dynamic_network_architectures.building_blocks.residual.BasicBlockD"})");
  EXPECT_EQ(resenc.nnunet_resenc.stem_channels, 7);
  const auto same =
      config_of("nnunet", R"({"n_stages": 3, "features_per_stage": 5, "strides": 1})");
  EXPECT_THAT(same.nnunet.features_per_stage, ElementsAre(5, 5, 5));
  EXPECT_EQ(same.nnunet.strides.size(), 3U);
  EXPECT_THAT(error("nnunet", R"({"n_stages": 1e12, "features_per_stage": 5})"),
              HasSubstr("it must be 2 to 8"));
}

TEST(UpstreamConfig, TransBtsGoesByTheNamesOfItsConstructorAndOfTheGoldenFiles) {
  const auto published = config_of("transbts", R"({"img_dim": 16, "patch_dim": 8,
      "num_channels": 4, "num_classes": 4, "embedding_dim": 64, "num_heads": 2, "num_layers": 3,
      "hidden_dim": 48, "dropout_rate": 0.1, "attn_dropout_rate": 0.1})");
  EXPECT_EQ(published.transbts.base, 2);
  EXPECT_EQ(published.transbts.layers, 3);
  EXPECT_THAT(published.transbts.img_size, ElementsAre(16, 16, 16));
  const auto golden = R"({"img": 16, "base": 2, "emb": 64, "heads": 2, "tokens": )";
  EXPECT_EQ(error("transbts", concat(golden, "8}")), "");
  EXPECT_THAT(error("transbts", concat(golden, "9}")), HasSubstr("the number of voxels at 1/8"));
  EXPECT_EQ(error("transbts", R"({"img": [16, 32, 8], "tokens": 8})"), "");
  // The words of one original are not those of another.
  EXPECT_THAT(error("unetr", R"({"num_classes": 3})"), HasSubstr("no argument num_classes"));
}

// What is wrong by itself is the error, not what follows from it.
TEST(UpstreamConfig, SizesThatTransBtsCannotHave) {
  for (const auto* channels : {"0", "-32", "33", "16", "2097184", "9223372036854775808"}) {
    EXPECT_THAT(error("transbts", concat(R"({"embedding_dim": )", channels, "}")),
                HasSubstr("it must be 32 times 1 to 65536"))
        << channels;
  }
  EXPECT_THAT(error("transbts", R"({"base": 9223372036854775807, "emb": 64})"),
              ::testing::StartsWith("file.safetensors: base must be"));
  const auto with_tokens = [](const std::string& size) {
    return error("transbts", concat(R"({"tokens": 8, "img": )", size, "}"));
  };
  EXPECT_THAT(with_tokens(R"("a")"), HasSubstr("img must be a list of integers"));
  std::string many = "4096";
  for (int i = 0; i < 30; ++i) many += ", 4096";
  for (const auto& size : {std::string("-16"), std::string("65536"), "[" + many + "]"}) {
    EXPECT_THAT(with_tokens(size), ::testing::StartsWith("file.safetensors: img must")) << size;
  }
}

TEST(UpstreamConfig, NnFormerWithoutAnyArgument) {
  const auto config = config_of("nnformer", R"({"patch_size": 4, "conv_op": "torch.nn.Conv3d"})");
  EXPECT_EQ(config.nnformer.embedding_dim, 192);
  EXPECT_THAT(config.nnformer.num_heads, ElementsAre(6, 12, 24, 48));
  EXPECT_THAT(config.nnformer.crop_size, ElementsAre(64, 128, 128));
  EXPECT_TRUE(config.deep_supervision);
  EXPECT_EQ(config.out_channels, 14);
  EXPECT_THAT(error("nnformer", R"({"patch_size": [2, 4, 4]})"), HasSubstr("only [4,4,4]"));
}

// Blocks are no networks, and neither are others whose names begin like one of ours.
TEST(UpstreamConfig, NamesThatAreNoNetworks) {
  for (const auto* name : {"vim_blocks", "vmamba_block_2d", "vim_x", "unetr_pp", "mednext_k7", "",
                           "swin_unetr_", "nnunet_2d"}) {
    EXPECT_THAT(error(name, "{}"), HasSubstr(concat("there is no network \"", name, "\"")));
  }
  EXPECT_EQ(config_of("mednext_k3", "{}").name, "mednext");
}

// Keys of ours that an error names are called as the original calls them.
TEST(UpstreamConfig, ErrorsSpeakTheWordsOfTheOriginal) {
  EXPECT_THAT(error("uxnet", R"({"in_chans": 0})"),
              ::testing::StartsWith("file.safetensors: in_chans must be"));
  EXPECT_EQ(in_words_of_original("model.base: of model.heads, in model.nothing", "transbts"),
            "base: of num_heads, in nothing");
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
