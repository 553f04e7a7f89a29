// The instance norm and its gradients against LibTorch's and finite differences.

#include "segmamba/ops/instance_norm.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "support/error_of.h"
#include "support/gradcheck.h"

namespace segmamba::ops {
namespace {

using segmamba::test::error_of;
using segmamba::testing::gradcheck;
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

TEST(InstanceNorm, FormsTheShortcutAgainInsteadOfKeepingIt) {
  torch::manual_seed(5);
  const auto x = torch::randn({2, 3, 4, 4, 4}).requires_grad_(true);
  const auto origin = torch::randn({2, 3, 4, 4, 4}).requires_grad_(true);
  const auto run = [&](bool again, bool& was_kept) {
    auto shortcut = origin * 3;
    const auto memory = shortcut.storage().getWeakStorageImpl();
    AfterNorm after = {.shortcut = std::move(shortcut), .normalises_shortcut = true, .slope = 0.01};
    if (again) after.form_shortcut = [origin = origin.detach()] { return origin * 3; };
    const auto out = instance_norm(x, after);
    after = {};
    was_kept = !memory.expired();
    return torch::autograd::grad({out}, {x, origin}, {torch::cos(out.detach())});
  };
  bool kept = false, again_kept = true;
  const auto expected = run(false, kept), got = run(true, again_kept);
  EXPECT_TRUE(kept);
  EXPECT_FALSE(again_kept);
  for (std::size_t i = 0; i < got.size(); ++i) EXPECT_TRUE(torch::equal(got[i], expected[i]));
}

// What a network asks for, of x, shortcut, residual and the four numbers a channel.
struct Variant {
  bool shortcut = false, normalises_shortcut = false, residual = false, scales = false;
  double slope = 1;
};
const Variant kVariants[] = {{},
                             {.slope = 0.01},
                             {.residual = true, .slope = 0},
                             {.shortcut = true, .slope = 0.01},
                             {.shortcut = true, .normalises_shortcut = true, .slope = 0.01},
                             {.shortcut = true, .normalises_shortcut = true, .slope = 0},
                             {.scales = true, .slope = 0.01},
                             {.shortcut = true, .scales = true, .slope = 0.01},
                             {.shortcut = true,
                              .normalises_shortcut = true,
                              .residual = true,
                              .scales = true,
                              .slope = 0.2}};

Tensor run(const Variant& variant, const std::vector<Tensor>& in) {
  AfterNorm after{.normalises_shortcut = variant.normalises_shortcut, .slope = variant.slope};
  if (variant.shortcut) after.shortcut = in[1];
  if (variant.residual) after.residual = in[2];
  if (variant.scales) {
    after.weight = in[3];
    after.bias = in[4];
    if (variant.normalises_shortcut) {
      after.shortcut_weight = in[5];
      after.shortcut_bias = in[6];
    }
  }
  return instance_norm(in[0], after);
}

// x, shortcut, residual and the four numbers a channel, as leaves.
std::vector<Tensor> leaves(torch::ScalarType type, torch::MemoryFormat format,
                           torch::IntArrayRef size = {2, 3, 3, 4, 5}) {
  torch::manual_seed(8);
  const auto state = type == torch::kFloat64 ? type : torch::kFloat32;
  std::vector<Tensor> result;
  for (int i = 0; i < 3; ++i) {
    result.push_back((torch::randn(size, torch::kFloat64) + 0.5).to(type).contiguous(format));
  }
  for (int i = 0; i < 4; ++i) {
    result.push_back((torch::randn({size[1]}, torch::kFloat64) + 0.5).to(state));
  }
  for (auto& tensor : result) tensor.requires_grad_(true);
  return result;
}

std::vector<Tensor> used_by(const Variant& variant, const std::vector<Tensor>& in) {
  std::vector<Tensor> used{in[0]};
  if (variant.shortcut) used.push_back(in[1]);
  if (variant.residual) used.push_back(in[2]);
  if (variant.scales) used.insert(used.end(), {in[3], in[4]});
  if (variant.scales && variant.normalises_shortcut) used.insert(used.end(), {in[5], in[6]});
  return used;
}

TEST(InstanceNorm, GradientsEqualFiniteDifferences) {
  for (const auto format : {torch::MemoryFormat::Contiguous, kChannelsLast}) {
    for (std::size_t i = 0; i < std::size(kVariants); ++i) {
      SCOPED_TRACE(i);
      const auto in = leaves(torch::kFloat64, torch::MemoryFormat::Contiguous);
      const auto check = [&](const std::vector<Tensor>&) {
        auto laid_out = in;
        for (auto& tensor : laid_out) {
          if (tensor.dim() == 5) tensor = tensor.contiguous(format);
        }
        return run(kVariants[i], laid_out);
      };
      EXPECT_TRUE(gradcheck(check, used_by(kVariants[i], in)));
    }
  }
}

// Each gradient is the same when others are not wanted.
TEST(InstanceNorm, GradientsStandAlone) {
  for (const auto& variant : kVariants) {
    const auto in = leaves(torch::kFloat64, kChannelsLast);
    const auto used = used_by(variant, in);
    const auto grad = torch::cos(torch::arange(in[0].numel(), torch::kFloat64)).view_as(in[0]);
    const auto all = torch::autograd::grad({run(variant, in)}, used, {grad});
    for (std::size_t i = 0; i < used.size(); ++i) {
      auto alone = in;
      for (auto& tensor : alone) {
        if (!tensor.is_same(used[i])) tensor = tensor.detach();
      }
      const auto gradient = torch::autograd::grad({run(variant, alone)}, {used[i]}, {grad})[0];
      EXPECT_TRUE(torch::equal(gradient, all[i])) << i;
    }
  }
}

TEST(InstanceNorm, SixteenBitGradientsAreNearThoseOfFloat64) {
  for (const auto type : {torch::kBFloat16, torch::kFloat16}) {
    for (const auto format : {torch::MemoryFormat::Contiguous, kChannelsLast}) {
      for (const auto& variant : kVariants) {
        const auto in = leaves(type, format);
        std::vector<Tensor> exact;
        for (const auto& tensor : in) {
          exact.push_back(tensor.detach().to(torch::kFloat64).requires_grad_(true));
        }
        const auto grad = torch::cos(torch::arange(in[0].numel(), torch::kFloat64)).view_as(in[0]);
        const auto got =
            torch::autograd::grad({run(variant, in)}, used_by(variant, in), {grad.to(type)});
        const auto expected =
            torch::autograd::grad({run(variant, exact)}, used_by(variant, exact), {grad});
        for (std::size_t i = 0; i < got.size(); ++i) {
          const double size = std::max(1.0, expected[i].abs().max().item<double>());
          EXPECT_LT(difference(got[i], expected[i]) / size, 2 * tolerance(type))
              << type << ", " << i;
        }
      }
    }
  }
}

// In training, too, memory that nobody else needs is written over, and only then.
TEST(InstanceNorm, TrainsInTheMemoryThatWasGivenAway) {
  const auto leaf = torch::randn({1, 3, 4, 4, 4}).requires_grad_(true);
  const auto grad_of = [&](const Tensor& out) {
    return torch::autograd::grad({out}, {leaf}, {torch::cos(torch::arange(192)).view_as(out)})[0];
  };
  auto x = leaf * 2;
  const auto kept = x;
  const auto expected = instance_norm(std::move(x), {.slope = 0.1});
  EXPECT_NE(expected.const_data_ptr(), kept.const_data_ptr());
  EXPECT_TRUE(torch::equal(kept, leaf * 2));
  x = leaf * 2;
  const auto* memory = x.const_data_ptr();
  const auto out = instance_norm(std::move(x), {.slope = 0.1});
  EXPECT_EQ(out.const_data_ptr(), memory);
  EXPECT_TRUE(torch::equal(out, expected));
  EXPECT_TRUE(torch::equal(grad_of(out), grad_of(expected)));
  // A leaf stays what it is, and so does what another operator keeps for its gradient.
  const auto before = leaf.detach().clone();
  instance_norm(leaf, {.slope = 0.1});
  EXPECT_TRUE(torch::equal(leaf, before));
  auto exponential = leaf.exp();
  memory = exponential.const_data_ptr();
  const auto of_exponential = instance_norm(std::move(exponential), {.slope = 0.1});
  EXPECT_NE(of_exponential.const_data_ptr(), memory);
  const auto again = leaf.exp();
  EXPECT_TRUE(torch::equal(grad_of(of_exponential), grad_of(instance_norm(again, {.slope = 0.1}))));
  // Without an activation that can be undone, x is kept.
  x = leaf * 2;
  memory = x.const_data_ptr();
  const auto relu = instance_norm(std::move(x), {.slope = 0});
  EXPECT_NE(relu.const_data_ptr(), memory);
}

TEST(InstanceNorm, ChangingAnOutputThatIsKeptIsAnError) {
  const auto x = torch::randn({1, 2, 3, 3, 3}).requires_grad_(true);
  const auto out = instance_norm(x * 1, {.slope = 0.1});
  out.mul_(2);
  EXPECT_THROW(out.sum().backward(), c10::Error);
}

TEST(InstanceNorm, HasNoSecondDerivative) {
  const auto x = torch::randn({1, 2, 3, 3, 3}).requires_grad_(true);
  const auto first =
      torch::autograd::grad({instance_norm(x, {}).pow(2).sum()}, {x}, {}, true, true);
  EXPECT_THROW(first[0].sum().backward(), c10::Error);
}

TEST(InstanceNorm, TakesNothing) {
  const auto x = torch::zeros({0, 3, 4, 4, 4}).requires_grad_(true);
  const auto weight = torch::ones({3}).requires_grad_(true);
  const auto out = instance_norm(x, {.weight = weight});
  EXPECT_EQ(out.sizes(), x.sizes());
  const auto gradients = torch::autograd::grad({out.sum()}, {x, weight});
  EXPECT_EQ(gradients[0].sizes(), x.sizes());
  EXPECT_TRUE(torch::equal(gradients[1], torch::zeros({3})));
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

void expect_what_the_cpu_has(const std::vector<std::vector<std::int64_t>>& sizes) {
  for (const auto type : {torch::kFloat64, torch::kFloat32, torch::kBFloat16, torch::kFloat16}) {
    for (const auto format : {torch::MemoryFormat::Contiguous, kChannelsLast}) {
      for (const auto& size : sizes) {
        for (const auto& variant : kVariants) {
          const auto results = [&](torch::Device device) {
            auto in = leaves(type, format, size);
            for (auto& tensor : in) tensor = tensor.detach().to(device).requires_grad_(true);
            const auto out = run(variant, in);
            const auto grad = torch::cos(torch::arange(out.numel(), torch::kFloat64)).view_as(out);
            auto all =
                torch::autograd::grad({out}, used_by(variant, in), {grad.to(type).to(device)});
            all.push_back(out.detach());
            return all;
          };
          const auto expected = results(torch::kCPU), got = results(torch::kCUDA),
                     again = results(torch::kCUDA);
          for (std::size_t i = 0; i < got.size(); ++i) {
            const double scale = std::max(1.0, expected[i].abs().max().item<double>());
            EXPECT_LT(difference(got[i].cpu(), expected[i]) / scale, 2 * tolerance(type))
                << type << ", " << size[1] << " channels, tensor " << i;
            EXPECT_TRUE(torch::equal(got[i], again[i]));
          }
        }
      }
    }
  }
}

// scripts/gpu_check.sh runs these two: channels and voxels that are loaded one by one, and by 16
// bytes, in one span and in many; then what compute-sanitizer can run in a minute.
TEST(CudaInstanceNorm, EqualsTheCpu) {
  if (!torch::cuda::is_available()) GTEST_SKIP() << "no GPU on this machine";
  expect_what_the_cpu_has({{2, 3, 3, 4, 5}, {2, 48, 17, 24, 24}, {1, 768, 4, 4, 4}});
}

TEST(CudaSmallInstanceNorm, EqualsTheCpu) {
  if (!torch::cuda::is_available()) GTEST_SKIP() << "no GPU on this machine";
  expect_what_the_cpu_has({{2, 3, 3, 4, 5}, {1, 8, 5, 8, 8}});
}

}  // namespace
}  // namespace segmamba::ops
