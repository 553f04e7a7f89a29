#include "segmamba/nn/transbts.h"

#include <gtest/gtest.h>

#include "segmamba/nn/weights.h"
#include "support/error_of.h"

namespace segmamba::nn {
namespace {

using test::error_of;

ModelConfig config() {
  ModelConfig config;
  config.name = "transbts";
  config.in_channels = 2;
  config.transbts.img_size = {16, 8, 16};
  config.transbts.base = 2;
  config.transbts.layers = 1;
  config.transbts.hidden = 16;
  config.transbts.group_norm_groups = 2;
  return config;
}

// A recomputed part runs twice, but sees its batch once.
TEST(TransBts, RecomputingMovesRunningStatisticsOnce) {
  const auto statistics = [](const std::vector<std::string>& recomputed) {
    torch::manual_seed(3);
    const auto model = make_model(config());
    model->set_recomputed(recomputed);
    model->forward(torch::randn({2, 2, 16, 8, 16})).sum().backward();
    std::vector<torch::Tensor> buffers;
    for (const auto& buffer : model->buffers()) buffers.push_back(buffer.clone());
    return buffers;
  };
  const auto plain = statistics({}), recomputed = statistics({"all"});
  ASSERT_EQ(plain.size(), 3 * 11);  // mean, variance and count of each batch norm
  for (std::size_t i = 0; i < plain.size(); ++i) {
    EXPECT_TRUE(torch::equal(plain[i], recomputed[i])) << i;
    if (plain[i].dim() == 0) {
      EXPECT_EQ(plain[i].item<std::int64_t>(), 1);
    }
  }
}

TEST(TransBts, EvaluationLeavesStatisticsAndDrawsNothing) {
  const auto model = make_model(config());
  model->eval();
  const auto input = torch::randn({1, 2, 16, 8, 16});
  const auto first = model->forward(input), second = model->forward(input);
  EXPECT_TRUE(torch::equal(first, second));
  for (const auto& buffer : model->named_buffers()) {
    if (buffer.value().dim() == 0) {
      EXPECT_EQ(buffer.value().item<std::int64_t>(), 0) << buffer.key();
    }
  }
}

TEST(TransBts, ErrorsNameTheKey) {
  const auto error = [](auto change) {
    auto changed = config();
    change(changed);
    return error_of([&] { make_model(changed); });
  };
  EXPECT_EQ(error([](auto& c) { c.transbts.img_size = {}; }),
            "model.img_size: the network is made for inputs of one size [D, H, W], which must be "
            "given");
  EXPECT_EQ(error([](auto& c) {
              c.transbts.img_size = {16, 12, 16};
            }),
            "model.img_size: each size must be a multiple of 8, got [16, 12, 16]");
  EXPECT_EQ(error([](auto& c) { c.transbts.heads = 5; }),
            "model.heads must divide the transformer's channels, 32 * model.base = 64, got 5");
  EXPECT_EQ(error([](auto& c) { c.transbts.group_norm_groups = 8; }),
            "model.base must be a multiple of model.group_norm_groups, got 2 and 8");
  EXPECT_EQ(error([](auto& c) { c.deep_supervision = true; }),
            "model.deep_supervision: transbts has no outputs at coarser resolutions");
}

}  // namespace
}  // namespace segmamba::nn
