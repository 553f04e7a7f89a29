// The operators for inference against LibTorch's own.

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <utility>

#include "segmamba/ops/instance_norm.h"
#include "segmamba/ops/winograd.h"
#include "support/error_of.h"

namespace segmamba::ops {
namespace {

using segmamba::test::error_of;
using torch::Tensor;

constexpr auto kChannelsLast = torch::MemoryFormat::ChannelsLast3d;

double difference(const Tensor& got, const Tensor& expected) {
  return (got.to(torch::kFloat64) - expected.to(torch::kFloat64)).abs().max().item<double>();
}

double tolerance(torch::ScalarType type) {
  return type == torch::kFloat64    ? 1e-12
         : type == torch::kFloat32  ? 1e-5
         : type == torch::kBFloat16 ? 3e-2
                                    : 4e-3;
}

Tensor normalised(const Tensor& x) {
  return torch::instance_norm(x.to(torch::kFloat64), {}, {}, {}, {}, true, 0.1, 1e-5, false);
}

TEST(InstanceNorm, EqualsLibTorchsInEveryFormat) {
  torch::manual_seed(1);
  for (const auto type : {torch::kFloat64, torch::kFloat32, torch::kBFloat16, torch::kFloat16}) {
    for (const auto format : {torch::MemoryFormat::Contiguous, kChannelsLast}) {
      const auto numbers = [&] {
        return (torch::randn({2, 6, 5, 4, 3}) * 2 + 1).to(type).contiguous(format);
      };
      const auto x = numbers(), shortcut = numbers(), residual = numbers();
      const auto expected = torch::leaky_relu(normalised(x) + normalised(shortcut), 0.01) +
                            residual.to(torch::kFloat64);
      const auto got = instance_norm(
          x,
          {.shortcut = shortcut, .normalises_shortcut = true, .slope = 0.01, .residual = residual});
      EXPECT_LT(difference(got, expected), tolerance(type)) << type;
      EXPECT_TRUE(got.is_contiguous(format));
      EXPECT_EQ(got.scalar_type(), type);
      // Tensors of other formats are laid out as x is.
      const auto other = format == kChannelsLast ? torch::MemoryFormat::Contiguous : kChannelsLast;
      EXPECT_TRUE(torch::equal(instance_norm(x, {.shortcut = shortcut.contiguous(other),
                                                 .normalises_shortcut = true,
                                                 .slope = 0.01,
                                                 .residual = residual.contiguous(other)}),
                               got));
    }
  }
}

TEST(InstanceNorm, ScalesAndShiftsChannels) {
  torch::manual_seed(3);
  for (const auto type : {torch::kFloat64, torch::kFloat32, torch::kBFloat16, torch::kFloat16}) {
    const auto state = type == torch::kFloat64 ? torch::kFloat64 : torch::kFloat32;
    for (const auto format : {torch::MemoryFormat::Contiguous, kChannelsLast}) {
      for (const bool normalises : {true, false}) {
        const auto numbers = [&] {
          return torch::randn({2, 6, 5, 4, 3}).to(type).contiguous(format);
        };
        const auto of_channels = [&] { return torch::randn({6}, state); };
        const auto x = numbers(), shortcut = numbers();
        const AfterNorm after = {.shortcut = shortcut,
                                 .normalises_shortcut = normalises,
                                 .slope = 0.01,
                                 .weight = of_channels(),
                                 .bias = of_channels(),
                                 .shortcut_weight = of_channels(),
                                 .shortcut_bias = of_channels()};
        const auto affine = [](const Tensor& tensor, const Tensor& weight, const Tensor& bias) {
          const auto spread = [](const Tensor& values) {
            return values.to(torch::kFloat64).view({-1, 1, 1, 1});
          };
          return normalised(tensor) * spread(weight) + spread(bias);
        };
        const auto added = normalises ? affine(shortcut, after.shortcut_weight, after.shortcut_bias)
                                      : shortcut.to(torch::kFloat64);
        const auto expected = torch::leaky_relu(affine(x, after.weight, after.bias) + added, 0.01);
        EXPECT_LT(difference(instance_norm(x, after), expected), tolerance(type)) << type;
      }
    }
  }
}

TEST(InstanceNorm, TakesMemoryThatWasGivenAway) {
  const auto x = torch::randn({1, 3, 4, 4, 4});
  const auto before = x.clone();
  const auto expected = instance_norm(x, {});
  EXPECT_TRUE(torch::equal(x, before));
  auto given = x.clone();
  const auto* memory = given.const_data_ptr();
  const auto got = instance_norm(std::move(given), {});
  EXPECT_EQ(got.const_data_ptr(), memory);
  EXPECT_TRUE(torch::equal(got, expected));
  // A view of memory that others see is not.
  const auto whole = torch::randn({2, 3, 4, 4, 4});
  const auto copy = whole.clone();
  instance_norm(whole.narrow(0, 1, 1), {});
  EXPECT_TRUE(torch::equal(whole, copy));
}

TEST(InstanceNorm, ErrorsNameTheArgument) {
  const auto x = torch::zeros({1, 2, 3, 3, 3});
  EXPECT_EQ(error_of([&] { instance_norm(x.to(torch::kInt), {}); }),
            "instance_norm: x must be Float, Double, BFloat16 or Half, got Int");
  EXPECT_EQ(error_of([&] { instance_norm(x, {.shortcut = x.to(torch::kFloat64)}); }),
            "instance_norm: shortcut must be Float (x is Float), got Double");
  EXPECT_EQ(error_of([&] {
              instance_norm(x, {.residual = torch::zeros({1, 2, 3})});
            }),
            "instance_norm: residual must have x's shape [1, 2, 3, 3, 3], got [1, 2, 3]");
  EXPECT_EQ(error_of([&] { instance_norm(x, {.weight = torch::zeros({3})}); }),
            "instance_norm: weight must have shape [C] = [2], got [3]");
}

TEST(Winograd, EqualsLibTorchsConvolution) {
  torch::manual_seed(2);
  for (const auto type : {torch::kFloat64, torch::kFloat32, torch::kBFloat16, torch::kFloat16}) {
    const auto state = type == torch::kFloat64 ? torch::kFloat64 : torch::kFloat32;
    const auto x = torch::randn({2, 24, 7, 8, 9}).to(type);
    const auto weight = torch::randn({40, 24, 3, 3, 3}, state) / 25,
               bias = torch::randn({40}, state);
    const auto expected =
        torch::conv3d(x.to(torch::kFloat64), weight.to(torch::kFloat64), bias.to(torch::kFloat64),
                      /*stride=*/1, /*padding=*/1);
    const auto transformed = winograd_weight(weight);
    const auto got = winograd_convolution(x, transformed, bias, 40);
    EXPECT_LT(difference(got, expected), tolerance(type)) << type;
    EXPECT_TRUE(got.is_contiguous(kChannelsLast));
    EXPECT_EQ(got.scalar_type(), type);
    EXPECT_TRUE(torch::equal(
        winograd_convolution(x.contiguous(kChannelsLast), transformed, bias, 40), got));
  }
}

TEST(Winograd, ErrorsNameTheArgument) {
  EXPECT_EQ(error_of([] {
              winograd_weight(torch::zeros({4, 3, 3, 3, 1}));
            }),
            "winograd_convolution: weight must have shape [out, in, 3, 3, 3], got [4, 3, 3, 3, 1]");
  const auto weight = winograd_weight(torch::zeros({20, 3, 3, 3, 3}));
  const auto x = torch::zeros({1, 3, 4, 4, 4});
  EXPECT_EQ(error_of([&] { winograd_convolution(x.narrow(1, 0, 2), weight, {}, 20); }),
            "winograd_convolution: weight must have shape [64, blocks, in, 16] = [64, 2, 2, 16], "
            "got [64, 2, 3, 16]");
  EXPECT_EQ(error_of([&] { winograd_convolution(x, weight, torch::zeros({16}), 20); }),
            "winograd_convolution: bias must have shape [out] = [20], got [16]");
  EXPECT_EQ(error_of([&] { winograd_convolution(x.to(torch::kFloat64), weight, {}, 20); }),
            "winograd_convolution: weight must be Double (x is Double), got Float");
}

}  // namespace
}  // namespace segmamba::ops
