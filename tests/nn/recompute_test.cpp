#include "segmamba/nn/recompute.h"

#include <ATen/autocast_mode.h>
#include <gmock/gmock.h>

#include <cmath>
#include <map>

#include "segmamba/core/error.h"
#include "segmamba/nn/model.h"
#include "support/error_of.h"

namespace segmamba::nn {
namespace {

using test::error_of;
using ::testing::HasSubstr;
using Tensors = std::vector<torch::Tensor>;

ModelConfig small_config(const std::string& encoder) {
  ModelConfig config;
  config.segmamba.encoder = encoder;
  config.in_channels = 2;
  config.out_channels = 3;
  config.segmamba.dims = {6, 8};
  config.segmamba.depths = {2, 1};
  config.segmamba.hidden_size = 10;
  return config;
}

struct Result {
  torch::Tensor logits;
  std::map<std::string, torch::Tensor> gradients;
};

// Two forward and backward passes whose gradients add up.
Result train(const std::string& encoder, const std::vector<std::string>& recomputed,
             bool autocast = false) {
  torch::manual_seed(1);
  const auto model = make_model(small_config(encoder));
  model->set_recomputed(recomputed);
  const auto input = torch::randn({2, 2, 8, 12, 8});
  Result result;
  for (int i = 0; i < 2; ++i) {
    at::autocast::set_autocast_enabled(torch::kCPU, autocast);
    result.logits = model->forward(input);
    at::autocast::set_autocast_enabled(torch::kCPU, false);
    at::autocast::clear_cache();
    (result.logits.to(torch::kFloat) * torch::randn(result.logits.sizes())).sum().backward();
  }
  for (const auto& parameter : model->named_parameters()) {
    result.gradients[parameter.key()] = parameter->grad();
  }
  return result;
}

void expect_same_bits(const Result& expected, const Result& actual) {
  EXPECT_TRUE(torch::equal(expected.logits, actual.logits));
  for (const auto& [name, gradient] : expected.gradients) {
    ASSERT_TRUE(actual.gradients.at(name).defined()) << name;
    EXPECT_TRUE(torch::equal(gradient, actual.gradients.at(name))) << name;
  }
}

TEST(Recompute, GivesTheGradientsOfAPlainPassBitByBit) {
  for (const char* encoder : {"tom", "bidirectional", "paper"}) {
    const auto expected = train(encoder, {});
    expect_same_bits(expected, train(encoder, {"all"}));
    expect_same_bits(expected, train(encoder, {"stage1", "encoder1", "decoder2"}));
  }
}

TEST(Recompute, RunsAgainUnderTheAutocastOfTheFirstRun) {
  const auto expected = train("tom", {}, /*autocast=*/true);
  EXPECT_EQ(expected.logits.scalar_type(), torch::kBFloat16);
  expect_same_bits(expected, train("tom", {"all"}, /*autocast=*/true));
}

// A cast cached in the run without gradients must not cut the weight off where backward runs under
// autocast, too, or where the weight is used again.
TEST(Recompute, LeavesNothingInTheCacheOfAutocast) {
  const auto weight = torch::randn({4, 4}).requires_grad_();
  const auto input = torch::randn({3, 4});
  const auto product = [&](Tensors x) { return torch::mm(x[0], weight); };
  at::autocast::set_autocast_enabled(torch::kCPU, true);
  at::autocast::increment_nesting();
  (recompute(product, {input}) + product({input})).to(torch::kFloat).sum().backward();
  if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
  at::autocast::set_autocast_enabled(torch::kCPU, false);
  const auto expected = 2 * input.to(torch::kBFloat16).to(torch::kFloat).sum(0);
  ASSERT_TRUE(weight.grad().defined());
  EXPECT_TRUE(torch::allclose(weight.grad(), expected.unsqueeze(1).expand({4, 4}), 2e-2, 2e-2));
}

TEST(Recompute, DrawsTheSameRandomNumbersAndPutsTheGeneratorBack) {
  const auto scale = torch::ones({1000}).requires_grad_();
  const auto run = [&](bool again) {
    scale.mutable_grad().reset();
    torch::manual_seed(5);
    const TensorFunction drop = [&](Tensors x) {
      return torch::dropout(x[0] * scale, 0.5, /*train=*/true);
    };
    const auto input = torch::arange(1000, torch::kFloat);
    const auto output = again ? recompute(drop, {input}) : drop({input});
    const auto before = torch::rand({3});
    output.sum().backward();
    return Tensors{output, scale.grad().clone(), before, torch::rand({3})};
  };
  const auto expected = run(false), actual = run(true);
  for (std::size_t i = 0; i < expected.size(); ++i) {
    EXPECT_TRUE(torch::equal(expected[i], actual[i])) << i;
  }
}

// Hooks of a parameter's gradient, which data-parallel training hangs on, are called once.
TEST(Recompute, CallsTheHooksOfParameters) {
  const auto weight = torch::full({2}, 3.0).requires_grad_();
  int calls = 0;
  weight.register_hook([&](const torch::Tensor&) { ++calls; });
  recompute([&](Tensors x) { return x[0] * weight; }, {torch::ones({2})}).sum().backward();
  EXPECT_EQ(calls, 1);
  EXPECT_TRUE(torch::equal(weight.grad(), torch::ones({2})));
}

TEST(Recompute, TakesSeveralInputsAndGivesGradientsToThoseThatNeedThem) {
  const auto a = torch::randn({4}, torch::kDouble).requires_grad_();
  const auto b = torch::randn({4}, torch::kDouble);
  const auto c = torch::randn({4}, torch::kDouble).requires_grad_();
  int runs = 0;
  const auto output = recompute(
      [&](Tensors x) {
        ++runs;
        return x[0] * x[1] * x[1] + x[2].sin();
      },
      {a, b, c * 2});
  EXPECT_EQ(runs, 1);
  output.sum().backward();
  EXPECT_EQ(runs, 2);
  EXPECT_TRUE(torch::equal(a.grad(), b * b));
  EXPECT_FALSE(b.grad().defined());
  EXPECT_TRUE(torch::allclose(c.grad(), 2 * (2 * c).cos()));
}

TEST(Recompute, NestsAndLeavesFrozenPiecesAlone) {
  const auto input = torch::randn({5}, torch::kDouble).requires_grad_();
  const TensorFunction inner = [](Tensors x) { return x[0].sin(); };
  recompute([&](Tensors x) { return recompute(inner, {x[0] * 2}); }, {input}).sum().backward();
  EXPECT_TRUE(torch::allclose(input.grad(), 2 * (2 * input).cos()));
  // Nothing in it needs a gradient: backward passes by.
  const auto other = torch::ones({1}).requires_grad_();
  (recompute(inner, {torch::ones({5})}).sum() * other).backward();
  EXPECT_NEAR(other.grad().item<double>(), 5 * std::sin(1.0), 1e-5);
}

TEST(Recompute, IsAPlainCallWithoutGradients) {
  int runs = 0;
  const TensorFunction count = [&](Tensors x) {
    ++runs;
    return x[0];
  };
  const auto input = torch::ones({2}).requires_grad_();
  {
    const torch::NoGradGuard guard;
    EXPECT_FALSE(recompute(count, {input}).grad_fn());
  }
  const c10::InferenceMode mode;
  EXPECT_TRUE(recompute(count, {torch::ones({2})}).is_inference());
  EXPECT_EQ(runs, 2);
}

TEST(Recompute, RefusesASecondDerivative) {
  const auto input = torch::ones({2}).requires_grad_();
  const auto output = recompute([](Tensors x) { return x[0] * x[0]; }, {input});
  EXPECT_EQ(error_of([&] {
              torch::autograd::grad({output.sum()}, {input}, {}, /*retain_graph=*/true,
                                    /*create_graph=*/true);
            }),
            "recomputed parts of a model have no second derivative: set training.recompute to []");
}

TEST(Recompute, RefusesAnInputThatWasOverwritten) {
  const auto weight = torch::ones({2}).requires_grad_();
  const auto input = torch::ones({2});
  const auto output = recompute([&](Tensors x) { return x[0] * weight; }, {input});
  input.add_(1);
  EXPECT_THAT([&] { output.sum().backward(); },
              testing::ThrowsMessage<c10::Error>(HasSubstr("modified by an inplace operation")));
}

TEST(SegmentationModel, ListsItsPartsAndNamesThoseThatItHasNot) {
  const auto model = make_model(small_config("tom"));
  EXPECT_EQ(model->parts(),
            (std::vector<std::string>{"stage1", "stage2", "encoder3", "encoder2", "decoder3",
                                      "encoder1", "decoder2", "decoder1"}));
  EXPECT_EQ(error_of([&] {
              model->set_recomputed({"stage1", "stage3"});
            }),
            "training.recompute: the model has no part \"stage3\"; did you mean stage1? Its parts "
            "are stage1, stage2, encoder3, encoder2, decoder3, encoder1, decoder2, decoder1, or "
            "all");
}

// Two convolutions of [2 x, y]: their gradients, and whether it was kept for them.
struct OfBoth {
  Tensors leaves;
  bool autocast = false;
  bool forgets = true, was_kept = false;

  Tensors gradients(int passes = 1) {
    std::vector<torch::Tensor> wanted;
    for (const auto& leaf : leaves) {
      if (leaf.requires_grad()) wanted.push_back(leaf);
    }
    at::autocast::set_autocast_enabled(torch::kCPU, autocast);
    FormedAgain both(
        [](Tensors x) {
          return torch::cat({2 * x[0], x[1]}, 1);
        },
        {leaves[0], leaves[1]});
    auto tensor = both.take();
    const auto memory = tensor.storage().getWeakStorageImpl();
    const auto first = torch::conv3d(tensor, leaves[2]), second = torch::conv3d(tensor, leaves[3]);
    if (forgets) {
      both.forget_input_of(first);
      both.forget_input_of(second);
    }
    tensor.reset();
    at::autocast::set_autocast_enabled(torch::kCPU, false);
    at::autocast::clear_cache();
    was_kept = !memory.expired();
    const auto loss = (first.sigmoid() * second).to(torch::kFloat).sum();
    for (int i = 1; i < passes; ++i) torch::autograd::grad({loss}, wanted, {}, true);
    return torch::autograd::grad({loss}, wanted);
  }
};

TEST(FormedAgain, GivesTheSameGradientsAndKeepsNothing) {
  torch::manual_seed(4);
  const Tensors leaves = {torch::randn({2, 3, 4, 4, 4}).requires_grad_(true),
                          torch::randn({2, 2, 4, 4, 4}).requires_grad_(true),
                          torch::randn({4, 5, 3, 3, 3}).requires_grad_(true),
                          torch::randn({4, 5, 3, 3, 3}).requires_grad_(true)};
  for (const bool autocast : {false, true}) {
    OfBoth plain{.leaves = leaves, .autocast = autocast, .forgets = false};
    const auto expected = plain.gradients();
    OfBoth forgetting{.leaves = leaves, .autocast = autocast};
    for (const int passes : {1, 2}) {
      const auto got = forgetting.gradients(passes);
      for (std::size_t i = 0; i < got.size(); ++i) EXPECT_TRUE(torch::equal(got[i], expected[i]));
    }
    EXPECT_TRUE(plain.was_kept || autocast);  // which keeps a cast of it
    EXPECT_FALSE(forgetting.was_kept);
  }
}

TEST(FormedAgain, IsForgottenByLinearLayers) {
  torch::manual_seed(6);
  const auto hidden = torch::randn({2, 5, 6}).requires_grad_(true);
  for (const bool has_bias : {true, false}) {
    const torch::nn::Linear layer(torch::nn::LinearOptions(6, 4).bias(has_bias));
    const auto run = [&](bool forgets, bool& was_kept) {
      FormedAgain active([](Tensors x) { return torch::gelu(x[0]); }, {hidden});
      auto tensor = active.take();
      const auto memory = tensor.storage().getWeakStorageImpl();
      const auto output = torch::linear(tensor, layer->weight, layer->bias);
      if (forgets) active.forget_input_of(output);
      tensor.reset();
      was_kept = !memory.expired();
      return torch::autograd::grad({output.square().sum()}, {hidden, layer->weight});
    };
    bool plain = false, forgetting = true;
    const auto expected = run(false, plain), got = run(true, forgetting);
    for (std::size_t i = 0; i < got.size(); ++i) EXPECT_TRUE(torch::equal(got[i], expected[i]));
    EXPECT_TRUE(plain) << has_bias;
    EXPECT_FALSE(forgetting) << has_bias;
  }
}

TEST(FormedAgain, FormsWhatFollowsFromIt) {
  const auto leaf = torch::randn({2, 3}).requires_grad_(true);
  int formed = 0;
  FormedAgain doubled(
      [&formed](Tensors x) {
        ++formed;
        return 2 * x[0];
      },
      {leaf});
  auto next = doubled.then(doubled.take(), [](Tensors x) { return x[0] + 1; });
  const auto form = next.form();
  EXPECT_TRUE(next.take().requires_grad());
  EXPECT_EQ(formed, 1);
  const auto again = form();
  EXPECT_TRUE(torch::equal(again, 2 * leaf + 1));
  EXPECT_FALSE(again.requires_grad());
  EXPECT_EQ(formed, 2);
  const torch::NoGradGuard no_gradients;
  FormedAgain alone([](Tensors x) { return 2 * x[0]; }, {leaf});
  EXPECT_FALSE(alone.then(alone.take(), [](Tensors x) { return x[0]; }).form());
}

TEST(FormedAgain, TakesFrozenWeightsAndTensorsWithoutGradients) {
  torch::manual_seed(5);
  const Tensors leaves = {torch::randn({1, 3, 4, 4, 4}).requires_grad_(true),
                          torch::randn({1, 2, 4, 4, 4}), torch::randn({4, 5, 3, 3, 3}),
                          torch::randn({4, 5, 3, 3, 3}).requires_grad_(true)};
  OfBoth plain{.leaves = leaves, .forgets = false}, forgetting{.leaves = leaves};
  const auto expected = plain.gradients(), got = forgetting.gradients();
  for (std::size_t i = 0; i < got.size(); ++i) EXPECT_TRUE(torch::equal(got[i], expected[i]));
  EXPECT_FALSE(forgetting.was_kept);
  const torch::NoGradGuard no_gradients;
  FormedAgain alone([](Tensors x) { return x[0] + 1; }, {leaves[0]});
  auto tensor = alone.take();
  alone.forget_input_of(torch::conv3d(tensor, torch::randn({2, 3, 1, 1, 1})));
  EXPECT_TRUE(torch::equal(tensor, leaves[0] + 1));
}

}  // namespace
}  // namespace segmamba::nn
