// Parity with the original implementation, forward and gradients.

#include "golden.h"

#include <functional>

#include "segmamba/nn/gsc.h"
#include "segmamba/nn/mamba_layer.h"
#include "segmamba/nn/mlp_channel.h"
#include "segmamba/nn/norms.h"
#include "segmamba/nn/segmamba.h"

namespace segmamba::nn {
namespace {

using test::Golden;
using test::near;

constexpr double kDouble = 1e-6;  // the golden values are rounded to float32
constexpr double kSingle = 2e-5;

// Runs a block of a golden file in float64 and float32: output, gradients of the input and of every
// parameter. `prefix` stands before the file's parameter names that the module does not have.
template <class Module>
void check_block(const std::string& name, Module module,
                 const std::function<torch::Tensor(const torch::Tensor&, const Golden&)>& forward,
                 const std::string& prefix = "") {
  const Golden golden(name);
  for (const auto type : {torch::kFloat64, torch::kFloat32}) {
    const double tolerance = type == torch::kFloat64 ? kDouble : kSingle;
    module->to(type);
    module->zero_grad();
    load_state_dict(*module, golden.group("param." + prefix));
    const auto input = golden.tensor("input", type).requires_grad_();
    const auto output = forward(input, golden);
    EXPECT_TRUE(near(output, golden.tensor("output", type), tolerance)) << type;
    output.backward(golden.tensor("grad_output", type));
    EXPECT_TRUE(near(input.grad(), golden.tensor("grad.input", type), tolerance)) << type;
    if (type == torch::kFloat32) continue;  // small gradients are differences of large ones
    for (const auto& parameter : module->named_parameters()) {
      const auto expected = golden.tensor("grad." + prefix + parameter.key(), type);
      // Biases before an instance norm have no gradient but rounding.
      if (expected.abs().max().template item<double>() < 1e-9) {
        EXPECT_LT(parameter->grad().abs().max().template item<double>(), 1e-9) << parameter.key();
      } else {
        EXPECT_TRUE(near(parameter->grad(), expected, tolerance)) << parameter.key();
      }
    }
  }
}

TEST(Golden, GatedSpatialConvolution) {
  Gsc gsc(6);
  check_block("block_gsc", gsc, [&](auto& input, auto&) { return gsc(input); });
}

TEST(Golden, MlpChannel) {
  MlpChannel mlp(6, 12);
  check_block("block_mlp", mlp, [&](auto& input, auto&) { return mlp(input); });
}

TEST(Golden, ChannelLayerNorm) {
  ChannelLayerNorm norm(6);
  check_block("block_layernorm_channels_first", norm,
              [&](auto& input, auto&) { return norm(input); });
}

TEST(Golden, MambaLayerOfThreeDirections) {
  MambaLayer layer(MambaLayerOptions{
      .mamba = {.dim = 8,
                .directions = {Direction::kForward, Direction::kReverse, Direction::kInterSlice}}});
  check_block("block_mamba_layer_tom", layer, [&](auto& input, auto&) { return layer(input); });
}

TEST(Golden, MambaOfTwoDirections) {
  Mamba mamba(MambaOptions{.dim = 12, .directions = {Direction::kForward, Direction::kReverse}});
  check_block("mamba_two_directions", mamba,
              [&](auto& input, auto&) { return mamba(input, /*slices=*/1); });
}

TEST(Golden, MambaOfThreeDirections) {
  Mamba mamba(MambaOptions{
      .dim = 12, .directions = {Direction::kForward, Direction::kReverse, Direction::kInterSlice}});
  check_block("mamba_three_directions", mamba, [&](auto& input, const Golden& golden) {
    return mamba(input, golden.info["nslices"].get<std::int64_t>());
  });
}

TEST(Golden, UnetrBasicBlockThatChangesChannels) {
  UnetrBasicBlock block(4, 6);
  check_block("block_unetr_basic_4_6", block, [&](auto& input, auto&) { return block(input); });
}

TEST(Golden, UnetrBasicBlockThatKeepsChannels) {
  UnetrBasicBlock block(6, 6);
  check_block("block_unetr_basic_6_6", block, [&](auto& input, auto&) { return block(input); });
}

TEST(Golden, UnetrUpBlock) {
  UnetrUpBlock block(8, 4);
  check_block(
      "block_unetr_up_8_4", block,
      [&](auto& input, const Golden& golden) {
        return block(input, golden.tensor("skip", input.scalar_type()));
      },
      "up.");
}

class GoldenModel : public ::testing::TestWithParam<std::string> {};

TEST_P(GoldenModel, LogitsActivationsAndGradientNormsInDouble) {
  const Golden golden(GetParam());
  auto model = std::make_shared<SegMambaImpl>(golden.config());
  model->to(torch::kFloat64);
  load_state_dict(*model, golden.group("param."));
  const auto input = golden.tensor("input", torch::kFloat64).requires_grad_();

  auto feature = input;
  torch::Tensor bottleneck;
  for (std::int64_t i = 0; i < 4; ++i) {
    feature = model->encoder->stage(i, feature);
    if (i > 0) {
      EXPECT_TRUE(near(feature, golden.file.tensors.at("act.stage" + std::to_string(i)), kDouble))
          << "stage " << i;
    }
    const auto skip = model->encoder_blocks[i + 1](model->encoder->output(i, feature));
    if (i == 3) {
      EXPECT_TRUE(near(skip, golden.file.tensors.at("act.encoder5"), kDouble));
      EXPECT_TRUE(near(model->decoder_blocks[3](skip, bottleneck),
                       golden.file.tensors.at("act.decoder5"), kDouble));
    }
    bottleneck = skip;
  }

  const auto output = model->forward(input);
  EXPECT_TRUE(near(output, golden.file.tensors.at("output"), kDouble));
  const auto weights = torch::cos(torch::arange(output.numel(), torch::kFloat64) * 0.37);
  (output.flatten() * weights).sum().backward();
  auto norms = golden.group("gradnorm.");
  double largest = 0;
  for (const auto& [name, norm] : norms) largest = std::max(largest, norm.item<double>());
  auto leaves = model->named_parameters();
  leaves.insert("input", input);
  for (const auto& leaf : leaves) {
    const double expected = norms.at(leaf.key()).item<double>();
    // Biases before an instance norm have no gradient but rounding.
    EXPECT_NEAR(leaf->grad().norm().item<double>(), expected,
                kDouble * std::max(expected, kDouble * largest))
        << leaf.key();
    norms.erase(leaf.key());
  }
  EXPECT_TRUE(norms.empty()) << "no parameter of the name " << norms.begin()->first;
}

TEST_P(GoldenModel, LogitsInSingle) {
  const Golden golden(GetParam());
  auto model = make_model(golden.config());
  load_state_dict(*model, golden.group("param."));
  const torch::NoGradGuard no_grad;
  const auto output = model->forward(golden.file.tensors.at("input"));
  EXPECT_TRUE(near(output, golden.file.tensors.at("output"), kSingle));
}

INSTANTIATE_TEST_SUITE_P(Encoders, GoldenModel,
                         ::testing::Values("model_tom", "model_bidirectional"));

}  // namespace
}  // namespace segmamba::nn
