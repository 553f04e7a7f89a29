// Winograd's convolution against LibTorch's own.

#include "segmamba/ops/winograd.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

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
