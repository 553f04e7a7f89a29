#include "segmamba/nn/inference.h"

#include <gtest/gtest.h>

#include "golden.h"
#include "segmamba/nn/convolution.h"
#include "segmamba/nn/model.h"
#include "segmamba/nn/unetr_blocks.h"
#include "segmamba/nn/weights.h"
#include "support/error_of.h"

namespace segmamba::nn {
namespace {

using test::near;

// Wide enough for every way a convolution is computed.
ModelConfig config_of(const std::string& encoder) {
  ModelConfig config;
  config.segmamba.encoder = encoder;
  config.out_channels = 3;
  config.segmamba.dims = {16, 24, 32};
  config.segmamba.depths = {1, 2, 1};
  config.segmamba.hidden_size = 40;
  config.segmamba.directions = {"forward", "reverse", "inter-slice"};
  return config;
}

class Prepared : public ::testing::TestWithParam<const char*> {};

TEST_P(Prepared, ModelsGiveTheLogitsOfTheOriginal) {
  torch::manual_seed(4);
  const auto config = config_of(GetParam());
  const auto original = make_model(config), prepared = make_model(config);
  load_state_dict(*prepared, state_dict(*original));
  const auto input = torch::randn({2, 4, 16, 24, 32});
  // With gradients: LibTorch's operators throughout.
  const auto expected = original->forward(input).detach();
  const c10::InferenceMode inference;
  EXPECT_TRUE(near(original->forward(input), expected, 1e-5));
  prepare_for_inference(*prepared, torch::kFloat32);
  const auto logits = prepared->forward(input);
  EXPECT_TRUE(near(logits, expected, 1e-5));
  EXPECT_TRUE(logits.is_contiguous());
  // An item's result does not depend on those beside it, but for the order of oneDNN's sums.
  EXPECT_TRUE(near(prepared->forward(input.narrow(0, 1, 1)), logits.narrow(0, 1, 1), 1e-5));
}

TEST_P(Prepared, SixteenBitsAreCloseAndComeBackAsTheInputsType) {
  torch::manual_seed(5);
  const auto config = config_of(GetParam());
  const auto original = make_model(config);
  const auto input = torch::randn({1, 4, 24, 16, 32});
  const c10::InferenceMode inference;
  const auto expected = original->forward(input);
  for (const auto type : {torch::kBFloat16, torch::kHalf}) {
    const auto prepared = make_model(config);
    load_state_dict(*prepared, state_dict(*original));
    prepare_for_inference(*prepared, type);
    const auto logits = prepared->forward(input);
    EXPECT_EQ(logits.scalar_type(), torch::kFloat32);
    EXPECT_TRUE(near(logits, expected, type == torch::kBFloat16 ? 0.1 : 0.02)) << type;
    const auto same = (logits.argmax(1) == expected.argmax(1)).to(torch::kDouble).mean();
    EXPECT_GT(same.item<double>(), type == torch::kBFloat16 ? 0.97 : 0.995) << type;
  }
}

INSTANTIATE_TEST_SUITE_P(Encoders, Prepared, ::testing::Values("tom", "bidirectional", "paper"));

TEST(Convolution, PacksLargeWeightsOnce) {
  if (!has_matrix_unit(torch::kBFloat16)) GTEST_SKIP() << "this processor has no AMX";
  torch::manual_seed(8);
  for (const std::int64_t stride : {1, 2}) {
    Convolution layer(torch::nn::Conv3dOptions(400, 392, 2).stride(stride).padding(1));
    layer->to(torch::kBFloat16);
    const c10::InferenceMode inference;
    const auto input = [](std::vector<std::int64_t> size) {
      return torch::randn(size)
          .to(torch::kBFloat16)
          .contiguous(torch::MemoryFormat::ChannelsLast3d);
    };
    // Of several sizes: the weights are laid out before any is known.
    const auto small = input({2, 400, 3, 4, 5}), large = input({1, 400, 9, 8, 7});
    const auto expected_small = layer->forward(small), expected_large = layer->forward(large);
    layer->prepare_for_inference(torch::kBFloat16);
    EXPECT_EQ(layer->weight.numel(), 0);
    EXPECT_TRUE(near(layer->forward(small), expected_small, 1e-2));
    const auto got = layer->forward(large);
    EXPECT_TRUE(near(got, expected_large, 1e-2));
    EXPECT_TRUE(got.is_contiguous(torch::MemoryFormat::ChannelsLast3d));
  }
}

TEST(UpConvolution, AsAMatrixProductEqualsLibTorchs) {
  torch::manual_seed(6);
  UpConvolution layer(5, 7);
  const auto input = torch::randn({2, 5, 3, 4, 2}), skip = torch::randn({2, 4, 6, 8, 4});
  const c10::InferenceMode inference;
  const auto expected = layer->forward_beside(input, skip);
  layer->prepare_for_inference(torch::kFloat32);
  const auto format = torch::MemoryFormat::ChannelsLast3d;
  EXPECT_TRUE(near(layer->forward_beside(input.contiguous(format), skip.contiguous(format)),
                   expected, 1e-6));
}

TEST(PrepareForInference, TakesFloatTypesOnly) {
  const auto model = make_model(config_of("tom"));
  EXPECT_EQ(test::error_of([&] { prepare_for_inference(*model, torch::kInt); }),
            "a model is prepared for float32, bfloat16 or float16, not for Int");
}

}  // namespace
}  // namespace segmamba::nn
