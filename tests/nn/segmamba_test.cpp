// Properties of the models beyond the golden sizes.

#include "segmamba/nn/segmamba.h"

#include <gmock/gmock.h>

#include <cmath>
#include <cstdlib>
#include <fstream>
#include <functional>

#include "golden.h"
#include "segmamba/core/error.h"
#include "segmamba/core/text.h"
#include "segmamba/nn/cost.h"
#include "segmamba/nn/mamba_layer.h"
#include "segmamba/nn/paper_encoder.h"
#include "segmamba/nn/weights.h"
#include "support/gradcheck.h"
#include "support/temporary_folder.h"

namespace segmamba::nn {
namespace {

using test::near;
using testing::gradcheck;
using ::testing::HasSubstr;

std::string error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "(no error)";
}

std::map<std::string, std::int64_t> parts_of(const torch::nn::Module& module) {
  const auto parts = parameters_by_part(module);
  return {parts.begin(), parts.end()};
}

const std::map<std::string, std::int64_t> kDecoderParts = {
    {"encoder1", 67584},    {"encoder2", 377856},   {"encoder3", 1511424}, {"encoder4", 6045696},
    {"encoder5", 24182784}, {"decoder5", 14598144}, {"decoder4", 3649536}, {"decoder3", 912384},
    {"decoder2", 228096},   {"decoder1", 124416},   {"out", 196}};

// The published sizes, counted part by part on the original.
TEST(SegMamba, HasThePublishedParametersAtFullSize) {
  auto expected = kDecoderParts;
  expected.insert({{"vit.downsample_layers.0", 65904},
                   {"vit.downsample_layers.1", 36960},
                   {"vit.downsample_layers.2", 147648},
                   {"vit.downsample_layers.3", 590208},
                   {"vit.gscs.0", 129216},
                   {"vit.gscs.1", 516480},
                   {"vit.gscs.2", 2065152},
                   {"vit.gscs.3", 8259072},
                   {"vit.stages.0", 62976},
                   {"vit.stages.1", 188160},
                   {"vit.stages.2", 625152},
                   {"vit.stages.3", 2245632},
                   {"vit.mlps.0", 9360},
                   {"vit.mlps.1", 37152},
                   {"vit.mlps.2", 148032},
                   {"vit.mlps.3", 590976}});
  const auto tom = make_model({});
  EXPECT_EQ(parts_of(*tom), expected);
  EXPECT_EQ(parameter_count(*tom), 67416196);

  expected = kDecoderParts;
  expected.insert({{"mamba_encoder", 96 + 192 + 384 + 768},  // norm0 .. norm3
                   {"mamba_encoder.downsample_layers.0", 66000},
                   {"mamba_encoder.downsample_layers.1", 37056},
                   {"mamba_encoder.downsample_layers.2", 147840},
                   {"mamba_encoder.downsample_layers.3", 590592},
                   {"mamba_encoder.stages.0", 51264},
                   {"mamba_encoder.stages.1", 162432},
                   {"mamba_encoder.stages.2", 564480},
                   {"mamba_encoder.stages.3", 2087424},
                   {"mamba_encoder.mlps.0", 18672},
                   {"mamba_encoder.mlps.1", 74208},
                   {"mamba_encoder.mlps.2", 295872},
                   {"mamba_encoder.mlps.3", 1181568}});
  ModelConfig config;
  config.segmamba.encoder = "bidirectional";
  const auto bidirectional = make_model(config);
  EXPECT_EQ(parts_of(*bidirectional), expected);
  EXPECT_EQ(parameter_count(*bidirectional), 56976964);
}

struct Variant {
  const char* encoder;
  std::int64_t in_channels, out_channels;
  std::vector<std::int64_t> dims, depths;
  std::vector<std::int64_t> size;
};

class Variants : public ::testing::TestWithParam<Variant> {};

TEST_P(Variants, KeepTheSizeAndLetGradientsReachEveryParameter) {
  const auto& variant = GetParam();
  torch::manual_seed(1);
  ModelConfig config;
  config.segmamba.encoder = variant.encoder;
  config.in_channels = variant.in_channels;
  config.out_channels = variant.out_channels;
  config.segmamba.dims = variant.dims;
  config.segmamba.depths = variant.depths;
  config.segmamba.hidden_size = 20;
  config.segmamba.directions = {"forward", "reverse", "inter-slice"};
  const auto model = make_model(config);
  auto sizes = variant.size;
  sizes.insert(sizes.begin(), {2, variant.in_channels});
  const auto logits = model->forward(torch::randn(sizes));
  sizes[1] = variant.out_channels;
  EXPECT_EQ(logits.sizes().vec(), sizes);
  (logits * torch::randn(sizes)).sum().backward();
  for (const auto& parameter : model->named_parameters()) {
    ASSERT_TRUE(parameter->grad().defined()) << parameter.key();
    EXPECT_GT(parameter->grad().abs().max().item<double>(), 0) << parameter.key();
  }
}

INSTANTIATE_TEST_SUITE_P(
    SegMamba, Variants,
    ::testing::Values(Variant{"tom", 1, 2, {6, 8, 10, 12}, {1, 2, 1, 1}, {32, 48, 64}},
                      Variant{"tom", 3, 5, {5, 7, 9, 11}, {1, 1, 1, 2}, {48, 32, 32}},
                      Variant{"tom", 2, 3, {4, 6}, {1, 1}, {12, 20, 8}},
                      Variant{"bidirectional", 2, 3, {17, 5, 3, 9}, {2, 1, 1, 1}, {32, 48, 32}},
                      Variant{"paper", 2, 7, {8, 6, 10, 4}, {1, 2, 1, 1}, {48, 32, 32}},
                      Variant{"paper", 3, 1, {6, 12, 8}, {1, 1, 1}, {24, 16, 40}}));

TEST(SegMamba, DeepSupervisionAddsAnOutputADecoder) {
  ModelConfig config;
  config.in_channels = 2;
  config.out_channels = 3;
  config.segmamba.dims = {4, 6, 8};
  config.segmamba.depths = {1, 1, 1};
  config.segmamba.hidden_size = 10;
  torch::manual_seed(7);
  const auto plain = make_model(config);
  config.deep_supervision = true;
  torch::manual_seed(7);
  const auto deep = make_model(config);

  auto names = state_dict(*deep);
  EXPECT_EQ(names.at("deep_outs.0.conv.conv.weight").sizes().vec(),
            (std::vector<std::int64_t>{3, 6, 1, 1, 1}));
  EXPECT_EQ(names.at("deep_outs.1.conv.conv.weight").sizes().vec(),
            (std::vector<std::int64_t>{3, 8, 1, 1, 1}));
  std::erase_if(names, [](const auto& item) { return starts_with(item.first, "deep_outs."); });
  load_state_dict(*plain, names);  // throws where any other name differs

  const auto input = torch::randn({2, 2, 8, 16, 24});
  const auto outputs = deep->forward_deep(input);
  ASSERT_EQ(outputs.size(), 3U);
  EXPECT_EQ(deep->deep_output_count(), 3U);
  EXPECT_EQ(plain->deep_output_count(), 1U);
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    const std::int64_t step = std::int64_t{1} << i;
    EXPECT_EQ(outputs[i].sizes().vec(),
              (std::vector<std::int64_t>{2, 3, 8 / step, 16 / step, 24 / step}));
  }
  EXPECT_TRUE(torch::equal(outputs[0], plain->forward(input)));
  EXPECT_TRUE(torch::equal(outputs[0], deep->forward(input)));
  EXPECT_EQ(plain->forward_deep(input).size(), 1U);

  torch::Tensor sum = torch::zeros({});
  for (const auto& output : outputs) sum = sum + (output * torch::randn_like(output)).sum();
  sum.backward();
  for (const auto& parameter : deep->named_parameters()) {
    ASSERT_TRUE(parameter->grad().defined()) << parameter.key();
    EXPECT_GT(parameter->grad().abs().max().item<double>(), 0) << parameter.key();
  }
}

TEST(SegMamba, ADeepHeadIsAConvolutionOfItsDecodersFeatures) {
  ModelConfig config;
  config.in_channels = 1;
  config.out_channels = 2;
  config.segmamba.dims = {4, 6};
  config.segmamba.depths = {1, 1};
  config.segmamba.hidden_size = 8;
  config.deep_supervision = true;
  SegMamba model(config);
  const auto input = torch::randn({1, 1, 8, 8, 8});
  const auto stage1 = model->encoder->stage(0, input), stage2 = model->encoder->stage(1, stage1);
  const auto decoded =
      model->decoder_blocks[1](model->encoder_blocks[2](model->encoder->output(1, stage2)),
                               model->encoder_blocks[1](model->encoder->output(0, stage1)));
  const auto weights = state_dict(*model);
  EXPECT_TRUE(near(model->forward_deep(input)[1],
                   torch::conv3d(decoded, weights.at("deep_outs.0.conv.conv.weight"),
                                 weights.at("deep_outs.0.conv.conv.bias")),
                   1e-6));
  // Counted where it is trained, not where it is not.
  const std::vector<std::int64_t> sizes = {1, 1, 8, 8, 8};
  const auto deep = forward_cost(config, sizes);
  const auto deep_training = training_cost(config, {.input_sizes = sizes});
  config.deep_supervision = false;
  const auto plain = forward_cost(config, sizes);
  EXPECT_EQ(deep.multiply_adds, plain.multiply_adds);
  EXPECT_EQ(deep.peak_bytes, plain.peak_bytes);
  EXPECT_EQ(deep_training.kept_bytes,
            training_cost(config, {.input_sizes = sizes}).kept_bytes + 4 * 2 * 4 * 4 * 4);
}

TEST(SegMamba, NamesTheMultipleThatASizeMustBeOf) {
  ModelConfig config;
  config.segmamba.dims = {4, 6, 8, 10};
  config.segmamba.depths = {1, 1, 1, 1};
  config.segmamba.hidden_size = 12;
  const auto model = make_model(config);
  EXPECT_EQ(model->input_sizes().multiple, (std::array<std::int64_t, 3>{16, 16, 16}));
  EXPECT_THAT(error_of([&] {
                model->forward(torch::zeros({1, 4, 32, 40, 32}));
              }),
              HasSubstr("32x40x32 does not fit: each size must be a multiple of 16"));
  // The instance norm of a single voxel would leave nothing of it.
  EXPECT_THAT(error_of([&] {
                model->forward(torch::zeros({1, 4, 16, 16, 16}));
              }),
              HasSubstr("its coarsest features are a single voxel; take a size above 16x16x16"));
  EXPECT_THAT(error_of([&] {
                model->forward(torch::zeros({1, 3, 32, 32, 32}));
              }),
              HasSubstr("[B, 4, D, H, W], got [1, 3, 32, 32, 32]"));
}

TEST(SegMamba, NamesTheConfigKeyThatDoesNotFit) {
  const auto making = [](const std::function<void(ModelConfig&)>& change) {
    ModelConfig config;
    change(config);
    return error_of([&] { make_model(config); });
  };
  EXPECT_THAT(making([](auto& c) { c.name = "segmambo"; }), HasSubstr("model.name"));
  EXPECT_THAT(making([](auto& c) { c.segmamba.encoder = "tim"; }), HasSubstr("model.encoder"));
  EXPECT_THAT(making([](auto& c) { c.segmamba.depths = {2, 2}; }), HasSubstr("model.depths"));
  EXPECT_THAT(making([](auto& c) { c.out_channels = 0; }), HasSubstr("model.out_channels"));
  EXPECT_THAT(making([](auto& c) {
                c.segmamba.encoder = "paper";
                c.in_channels = 5;
              }),
              HasSubstr("divisor of model.dims[0] = 48, got 5"));
  EXPECT_THAT(making([](auto& c) {
                c.segmamba.encoder = "paper";
                c.segmamba.directions = {"forward", "forward"};
              }),
              HasSubstr("model.directions"));
}

TEST(ModelConfig, ReadsBackWhatItWrites) {
  ModelConfig config;
  config.segmamba.encoder = "paper";
  config.segmamba.dims = {8, 16};
  config.segmamba.directions = {"inter-slice"};
  ModelConfig read;
  ConfigDocument::from_text(config_to_yaml(config), "test").read(read);
  EXPECT_EQ(config_to_yaml(read), config_to_yaml(config));
  EXPECT_EQ(read.segmamba.dims, config.segmamba.dims);
}

TEST(Mamba, StartsFromTheInitialValuesOfTheOriginal) {
  torch::manual_seed(3);
  Mamba mamba(MambaOptions{.dim = 64, .directions = {Direction::kForward, Direction::kReverse}});
  for (const auto& branch : mamba->branches) {
    const auto states = torch::arange(1, 17, torch::kFloat32).log().expand({128, 16});
    EXPECT_TRUE(torch::allclose(branch.A_log, states));
    EXPECT_TRUE(torch::equal(branch.D, torch::ones({128})));
    const double bound = 1 / std::sqrt(4.0);  // R = 64 / 16
    const auto weight = branch.dt_proj->weight.abs().max().item<double>();
    EXPECT_LE(weight, bound);
    EXPECT_GT(weight, 0.95 * bound);
    const auto delta = torch::softplus(branch.dt_proj->bias.to(torch::kFloat64));
    EXPECT_GE(delta.min().item<double>(), 0.001 * (1 - 1e-4));
    EXPECT_LE(delta.max().item<double>(), 0.1 * (1 + 1e-4));
    // Log-uniform: the median of 128 lies near the geometric mean, 0.01.
    EXPECT_NEAR(delta.log().mean().item<double>(), std::log(0.01), 0.35);
  }
}

// Eq. 1 written out in plain operations: one token after the other, one direction after the other.
torch::Tensor plain_mamba(const torch::Tensor& tokens, Mamba& mamba, std::int64_t slices) {
  const auto length = tokens.size(1), inner = 2 * tokens.size(2);
  const auto xz = torch::matmul(tokens, mamba->in_proj->weight.t());
  const auto x = xz.slice(2, 0, inner), z = xz.slice(2, inner);
  auto sum = torch::zeros_like(x);
  for (std::size_t k = 0; k < mamba->branches.size(); ++k) {
    auto& branch = mamba->branches[k];
    std::vector<std::int64_t> order(length);
    for (std::int64_t t = 0; t < length; ++t) {
      switch (mamba->options.directions[k]) {
        case Direction::kForward:
          order[t] = t;
          break;
        case Direction::kReverse:
          order[t] = length - 1 - t;
          break;
        case Direction::kInterSlice:
          order[t] = t % slices * (length / slices) + t / slices;
          break;
      }
    }
    const auto index = torch::tensor(order);
    // Three zeros on either side; the results that would look ahead are cut off.
    const auto path = torch::silu(torch::conv1d(x.index_select(1, index).transpose(1, 2),
                                                branch.conv1d->weight, branch.conv1d->bias,
                                                /*stride=*/1, /*padding=*/3, /*dilation=*/1, inner)
                                      .slice(2, 0, length)
                                      .transpose(1, 2));
    const auto projected = torch::matmul(path, branch.x_proj->weight.t());
    const auto rank = branch.dt_proj->weight.size(1);
    const auto delta =
        torch::softplus(torch::matmul(projected.slice(2, 0, rank), branch.dt_proj->weight.t()) +
                        branch.dt_proj->bias);
    const auto A = -torch::exp(branch.A_log);
    auto state = torch::zeros({tokens.size(0), inner, 16}, tokens.options());
    std::vector<torch::Tensor> steps;
    for (std::int64_t t = 0; t < length; ++t) {
      const auto B = projected.slice(2, rank, rank + 16).select(1, t).unsqueeze(1);
      const auto C = projected.slice(2, rank + 16).select(1, t).unsqueeze(1);
      const auto step = delta.select(1, t).unsqueeze(2), input = path.select(1, t).unsqueeze(2);
      state = torch::exp(step * A) * state + step * B * input;
      steps.push_back((state * C).sum(2) + branch.D * path.select(1, t));
    }
    sum = sum + torch::stack(steps, 1).index_select(1, torch::argsort(index));
  }
  return torch::matmul(sum * torch::silu(z), mamba->out_proj->weight.t());
}

PaperBlock small_paper_block() {
  torch::manual_seed(5);
  PaperBlock block(PaperBlockOptions{
      .mamba = {.dim = 3,
                .directions = {Direction::kForward, Direction::kReverse, Direction::kInterSlice}},
      .mlp_ratio = 2});
  block->to(torch::kFloat64);
  const torch::NoGradGuard no_grad;
  for (auto& parameter : block->parameters()) {
    parameter += 0.1 * torch::randn_like(parameter);
  }
  return block;
}

TEST(PaperBlock, IsEquationOneOfThePaper) {
  auto block = small_paper_block();
  const auto input = torch::randn({2, 3, 4, 3, 2}, torch::kFloat64);
  const auto norm = [](const torch::Tensor& x, LayerNorm& layer) {
    const auto mean = x.mean(-1, true);
    const auto variance = (x - mean).square().mean(-1, true);
    return (x - mean) / torch::sqrt(variance + 1e-5) * layer->weight + layer->bias;
  };
  const auto z = input.permute({0, 2, 3, 4, 1}).reshape({2, 24, 3});
  const auto middle = plain_mamba(norm(z, block->norm1), block->mamba, 4) + z;
  const auto hidden =
      torch::matmul(norm(middle, block->norm2), block->fc1->weight.t()) + block->fc1->bias;
  const auto gelu = hidden * 0.5 * (1 + torch::erf(hidden / std::sqrt(2.0)));
  const auto tokens = torch::matmul(gelu, block->fc2->weight.t()) + block->fc2->bias + middle;
  const auto expected = tokens.reshape({2, 4, 3, 2, 3}).permute({0, 4, 1, 2, 3});
  EXPECT_TRUE(near(block(input), expected, 1e-12));
}

TEST(PaperBlock, HasTheGradientsOfFiniteDifferences) {
  auto block = small_paper_block();
  auto inputs = block->parameters();
  inputs.push_back(torch::randn({1, 3, 2, 2, 3}, torch::kFloat64).requires_grad_());
  EXPECT_TRUE(gradcheck([&](const auto& all) { return block(all.back()); }, inputs,
                        {.relative = 1e-6, .absolute = 1e-7, .elements = 6}));
}

// The stem is depth-wise, stages follow one another unnormalised, down-sampling has the norm asked
// for, and the decoder gets the stages' own results.
TEST(PaperEncoder, IsStemBlocksAndDownsampling) {
  ModelConfig config;
  config.segmamba.encoder = "paper";
  config.in_channels = 2;
  config.segmamba.dims = {4, 6};
  config.segmamba.depths = {1, 2};
  for (const auto* norm : {"layer", "instance", "none"}) {
    config.segmamba.downsample_norm = norm;
    PaperEncoderImpl encoder(config);
    const auto parameters = encoder.named_parameters();
    const auto stem = parameters["downsample_layers.0.0.weight"];
    EXPECT_EQ(stem.sizes().vec(), (std::vector<std::int64_t>{4, 1, 7, 7, 7}));
    const auto input = torch::randn({1, 2, 8, 8, 12});
    const auto first = encoder.stage(0, input), second = encoder.stage(1, first);
    EXPECT_EQ(first.sizes().vec(), (std::vector<std::int64_t>{1, 4, 4, 4, 6}));
    EXPECT_EQ(second.sizes().vec(), (std::vector<std::int64_t>{1, 6, 2, 2, 3}));
    EXPECT_TRUE(torch::equal(encoder.output(1, second), second));
    EXPECT_EQ(parameters.contains("downsample_layers.1.norm.weight"), std::string(norm) == "layer");
    EXPECT_TRUE(parameters.contains("stages.1.1.mamba.A_b_log"));
  }
}

// segmamba-model forward, from file to file: the golden file serves as weights and as input.
TEST(ModelProgram, ReproducesTheGoldenLogits) {
  const test::TemporaryFolder folder;
  const auto golden_path = std::string(SEGMAMBA_TEST_DATA) + "/nn/model_tom.safetensors";
  const auto config = (folder.path() / "config.yaml").string();
  const auto output = (folder.path() / "logits.safetensors").string();
  const test::Golden golden("model_tom");
  std::string indented = "train:\n  epochs: 3\nmodel:\n  ";
  for (const char c : config_to_yaml(golden.config())) {
    indented += c == '\n' ? std::string("\n  ") : std::string(1, c);
  }
  std::ofstream(config) << indented << "\n";
  const std::string command = "'" + std::string(SEGMAMBA_BIN_DIR) +
                              "/segmamba-model' forward --config '" + config + "' --weights '" +
                              golden_path + "' --input '" + golden_path + "' --output '" + output +
                              "' --dtype float64 > /dev/null";
  ASSERT_EQ(std::system(command.c_str()), 0) << command;
  EXPECT_TRUE(
      near(read_safetensors(output).tensors.at("logits"), golden.file.tensors.at("output"), 1e-6));
}

}  // namespace
}  // namespace segmamba::nn
