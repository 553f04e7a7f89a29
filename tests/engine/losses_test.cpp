#include "segmamba/engine/losses.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>
#include <functional>

namespace segmamba::engine {
namespace {

using torch::Tensor;

Tensor example_logits(std::int64_t batch, std::int64_t classes) {
  const auto n = batch * classes * 2 * 3 * 2;
  return torch::sin(torch::arange(n, torch::kDouble) * 1.7).view({batch, classes, 2, 3, 2}) * 2;
}

Tensor example_labels(std::int64_t batch, std::int64_t classes) {
  return (torch::arange(batch * 12, torch::kLong) * 5 % classes).view({batch, 2, 3, 2});
}

// Central differences in float64 against backward().
void expect_gradient(const std::function<Tensor(const Tensor&)>& loss, const Tensor& at) {
  auto input = at.clone().requires_grad_();
  loss(input).backward();
  const auto gradient = input.grad().flatten();
  const double h = 1e-6;
  for (std::int64_t i = 0; i < at.numel(); ++i) {
    auto high = at.clone(), low = at.clone();
    high.flatten()[i] += h;
    low.flatten()[i] -= h;
    const double numeric = (loss(high) - loss(low)).item<double>() / (2 * h);
    EXPECT_NEAR(gradient[i].item<double>(), numeric, 1e-8) << "element " << i;
  }
}

TEST(CrossEntropy, EqualLogitsGiveLogOfTheClassCount) {
  const auto logits = torch::full({2, 4, 2, 3, 2}, 0.7, torch::kDouble);
  EXPECT_NEAR(cross_entropy(logits, example_labels(2, 4)).item<double>(), std::log(4.0), 1e-12);
}

TEST(CrossEntropy, EqualsTorchs) {
  const auto logits = example_logits(2, 4);
  const auto labels = example_labels(2, 4);
  EXPECT_NEAR(cross_entropy(logits, labels).item<double>(),
              torch::nn::functional::cross_entropy(logits, labels).item<double>(), 1e-12);
}

TEST(CrossEntropy, Gradient) {
  const auto labels = example_labels(1, 3);
  expect_gradient([&](const Tensor& logits) { return cross_entropy(logits, labels); },
                  example_logits(1, 3));
}

// Uniform softmax 1/2 over two classes, 12 voxels, 6 of class 1 in all: 2 * 3 / (6 + 6).
TEST(SoftDice, UniformPrediction) {
  const auto logits = torch::zeros({1, 2, 2, 3, 2}, torch::kDouble);
  const auto labels = torch::tensor({0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1}, torch::kLong);
  EXPECT_NEAR(soft_dice_loss(logits, labels.view({1, 2, 3, 2}), false, true, 0).item<double>(), 0.5,
              1e-12);
}

TEST(SoftDice, PerfectAndAbsent) {
  const auto labels = example_labels(1, 3);
  const auto logits = (labels.unsqueeze(1) == torch::arange(4).view({1, 4, 1, 1, 1})) * 200.0;
  // Class 3 is absent from both: (0 + smooth) / (0 + smooth) = 1.
  EXPECT_NEAR(soft_dice_loss(logits, labels, true, true, 1e-5).item<double>(), 0, 1e-9);
}

// One patch all of class 1 and predicted so, one patch all of class 0 and predicted as class 1:
// over the batch 2 * 12 / (24 + 12); patch by patch the mean of 1 and 0.
TEST(SoftDice, BatchAndPatch) {
  const auto labels = torch::cat(
      {torch::ones({1, 2, 3, 2}, torch::kLong), torch::zeros({1, 2, 3, 2}, torch::kLong)});
  auto logits = torch::zeros({2, 2, 2, 3, 2}, torch::kDouble);
  logits.select(1, 1).fill_(500);
  EXPECT_NEAR(soft_dice_loss(logits, labels, false, true, 0).item<double>(), 1 - 2.0 / 3, 1e-12);
  EXPECT_NEAR(soft_dice_loss(logits, labels, false, false, 0).item<double>(), 0.5, 1e-12);
}

TEST(SoftDice, Gradient) {
  const auto labels = example_labels(2, 3);
  for (const bool batch_dice : {true, false}) {
    expect_gradient(
        [&](const Tensor& logits) {
          return soft_dice_loss(logits, labels, !batch_dice, batch_dice, 1e-5);
        },
        example_logits(2, 3));
  }
}

TEST(SegmentationLoss, IsTheWeightedSum) {
  const auto logits = example_logits(2, 4);
  const auto labels = example_labels(2, 4);
  LossConfig config;
  EXPECT_NEAR(segmentation_loss(config, logits, labels).item<double>(),
              cross_entropy(logits, labels).item<double>(), 1e-12);
  config.name = "dice_cross_entropy";
  config.cross_entropy_weight = 0.5;
  config.dice_weight = 2;
  EXPECT_NEAR(
      segmentation_loss(config, logits, labels).item<double>(),
      (0.5 * cross_entropy(logits, labels) + 2 * soft_dice_loss(logits, labels, false, true, 1e-5))
          .item<double>(),
      1e-12);
}

}  // namespace
}  // namespace segmamba::engine
