#include "segmamba/nn/profile.h"

#include <ATen/record_function.h>
#include <gmock/gmock.h>

#include <functional>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "segmamba/nn/model.h"

namespace segmamba::nn {
namespace {

using ::testing::IsSubsetOf;

std::set<std::string> parts_of(const Profile& profile, bool backward) {
  std::set<std::string> parts;
  for (const auto& entry : profile.operators) {
    if (entry.backward == backward) parts.insert(entry.part);
  }
  return parts;
}

double multiply_adds(const Profile& profile, const std::string& part, bool backward) {
  double sum = 0;
  for (const auto& entry : profile.operators) {
    if (entry.part == part && entry.backward == backward) sum += entry.multiply_adds;
  }
  return sum;
}

Profile step(const std::vector<std::string>& recomputed) {
  torch::manual_seed(2);
  ModelConfig config;
  config.in_channels = 2;
  config.out_channels = 2;
  config.segmamba.dims = {8, 8};
  config.segmamba.depths = {1, 1};
  config.segmamba.hidden_size = 8;
  const auto model = make_model(config);
  model->set_recomputed(recomputed);
  const auto input = torch::randn({1, 2, 16, 16, 16});
  return profile(torch::kCPU, [&] {
    torch::Tensor loss;
    {
      const auto logits = model->forward(input);
      RECORD_USER_SCOPE("loss");
      loss = logits.square().mean();
    }
    loss.backward();
  });
}

TEST(Profile, CountsEachPartForwardAndBackward) {
  const std::set<std::string> parts = {"stage1",   "stage2",   "encoder1", "encoder2", "encoder3",
                                       "decoder2", "decoder3", "decoder1", "loss",     ""};
  for (const auto& recomputed : {std::vector<std::string>{}, {"stage1", "decoder2"}}) {
    const auto profile = step(recomputed);
    EXPECT_EQ(parts_of(profile, false), parts);
    EXPECT_THAT(parts_of(profile, true), IsSubsetOf(parts));
    for (const auto& part : parts) EXPECT_TRUE(parts_of(profile, true).contains(part)) << part;
    double seconds = 0;
    for (const auto& entry : profile.operators) seconds += entry.seconds;
    EXPECT_LE(seconds, profile.seconds);
    // Each product of the forward pass has two in the backward pass, of its data and its weights.
    const bool again = !recomputed.empty();
    EXPECT_DOUBLE_EQ(multiply_adds(profile, "decoder1", true),
                     2 * multiply_adds(profile, "decoder1", false));
    // What goes up is formed again, 8 to 8 channels, 8 taps, at 8^3 voxels, and the shortcut, 16 to
    // 8 channels at 16^3.
    EXPECT_DOUBLE_EQ(multiply_adds(profile, "decoder2", true),
                     2 * multiply_adds(profile, "decoder2", false) / (again ? 2 : 1) +
                         8 * 8 * 8 * 512 + 16 * 8 * 4096);
    EXPECT_GT(multiply_adds(profile, "decoder2", false), 0);
  }
}

TEST(Profile, CountsTheMultiplyAddsOfConvolutions) {
  const auto count = [](const std::function<void()>& work) {
    double sum = 0;
    for (const auto& entry : profile(torch::kCPU, work).operators) sum += entry.multiply_adds;
    return sum;
  };
  const auto x = torch::randn({2, 4, 5, 6, 7});
  EXPECT_EQ(count([&] { torch::conv3d(x, torch::randn({3, 4, 1, 1, 1})); }), 2 * 210 * 4 * 3);
  EXPECT_EQ(count([&] {
              torch::nn::functional::conv3d(x, torch::randn({4, 1, 1, 1, 1}),
                                            torch::nn::functional::Conv3dFuncOptions().groups(4));
            }),
            2 * 210 * 4);
  EXPECT_EQ(count([&] {
              torch::conv_transpose3d(x, torch::randn({4, 3, 2, 2, 2}), {}, 2);
            }),
            2 * 210 * 4 * 3 * 8);
  EXPECT_EQ(count([&] {
              torch::linear(torch::randn({2, 5, 4}), torch::randn({3, 4}));
            }),
            2 * 5 * 4 * 3);
  const auto weight = torch::randn({4, 3, 2, 2, 2}).requires_grad_(true);
  const auto leaf = x.clone().requires_grad_(true);
  EXPECT_EQ(count([&] { torch::conv_transpose3d(leaf, weight, {}, 2).sum().backward(); }),
            3 * 2 * 210 * 4 * 3 * 8);
}

TEST(Profile, LeavesNothingBehindAfterAnError) {
  EXPECT_THROW(profile(torch::kCPU, [] { throw std::runtime_error("stopped"); }),
               std::runtime_error);
  torch::randn({2, 2}).matmul(torch::randn({2, 2}));  // no callback is left
}

}  // namespace
}  // namespace segmamba::nn
